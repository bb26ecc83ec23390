"""A token of the local Keystone, and an object in the local Swift: are they ready?"""

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from headrace_local.errors import LocalStackError
from headrace_local.servers.keystone import DOMAIN, OPENSTACK_REGION, PROJECT, USER

_TIMEOUT_SECONDS: Final = 30
_PROBE_CONTAINER: Final = "headrace-readiness"


@dataclass(frozen=True)
class Token:
    """Proof of who we are.

    Attributes:
        text: goes into `X-Auth-Token`.
        object_store_url: where our project's objects are, from Keystone's catalog.
    """

    text: str
    object_store_url: str


def ask_token(auth_url: str, *, password: str) -> Token:
    """Get a token of our services' user.

    Args:
        auth_url: of Keystone, with the version.
        password: the user's.

    Raises:
        LocalStackError: the catalog lacks the object store.
        httpx.HTTPError: no answer, or a refusal.
    """
    domain = {"name": DOMAIN}
    user = {"name": USER, "domain": domain, "password": password}
    scope = {"project": {"name": PROJECT, "domain": domain}}
    identity = {"methods": ["password"], "password": {"user": user}}
    answer = httpx.post(
        f"{auth_url}/auth/tokens",
        json={"auth": {"identity": identity, "scope": scope}},
        timeout=_TIMEOUT_SECONDS,
        trust_env=False,
    ).raise_for_status()
    catalog = answer.json()["token"]["catalog"]
    return Token(answer.headers["X-Subject-Token"], _public_url(catalog))


def _public_url(catalog: list[dict[str, Any]]) -> str:
    for service in catalog:
        for endpoint in service["endpoints"] if service["type"] == "object-store" else ():
            if (endpoint["interface"], endpoint["region"]) == ("public", OPENSTACK_REGION):
                return str(endpoint["url"])
    raise LocalStackError("Keystone's catalog has no object store")


def put_object(token: Token, *, host: str) -> None:
    """Write an object: the proxy answers before it can store anything.

    Args:
        token: says where our objects are, but for the host: the catalogue may send clients
            another way.
        host: of Swift itself, with the port.

    Raises:
        httpx.HTTPError: no answer, or a refusal.
    """
    account = urlsplit(token.object_store_url)._replace(netloc=host).geturl()
    container = f"{account}/{_PROBE_CONTAINER}"
    with httpx.Client(
        headers={"X-Auth-Token": token.text}, timeout=_TIMEOUT_SECONDS, trust_env=False
    ) as client:
        client.put(container).raise_for_status()
        client.put(f"{container}/probe", content=b"ready").raise_for_status()
