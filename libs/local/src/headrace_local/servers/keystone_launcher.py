"""Runs Keystone behind waitress; executed by the Python that has Keystone.

Before it serves it makes whatever is missing of `identity.json`: the users with their passwords
and roles, the region, and the services with their addresses, which change when ports do. This is
what `keystone-manage bootstrap` and a few calls with the client do, without their start-up time.

It stands on names inside Keystone; the version is pinned in `tools`.
"""

import argparse
import importlib
import json
import os
import signal
import sys
import types
import uuid
from pathlib import Path
from typing import Any

_DOMAIN = "default"
_INTERFACES = ("public", "internal", "admin")
#: SQLite refuses, at once, the second of two transactions that read first and then write, as
#: each request for a token does.
_THREADS = 1


def load_application(directory: Path) -> Any:
    """Return Keystone's WSGI application, configured by `keystone.conf` in `directory`."""
    os.environ["OS_KEYSTONE_CONFIG_FILES"] = str(directory / "keystone.conf")
    sys.argv = sys.argv[:1]  # oslo.config reads it
    return importlib.import_module("keystone.server.wsgi").initialize_public_application()


class Identity:
    """What is in Keystone, made where it is missing, by the interfaces below its HTTP API."""

    def __init__(self) -> None:
        """Make it; the application is loaded."""
        self._api = importlib.import_module("keystone.common.provider_api").ProviderAPIs
        self._hints = importlib.import_module("keystone.common.driver_hints").Hints
        self._errors = importlib.import_module("keystone.exception")

    def bootstrap(self, wanted: dict[str, Any]) -> None:
        """Make the domain, Keystone's roles, the administrator, the region, and its own entry."""
        module = importlib.import_module("keystone.cmd.bootstrap")
        # Loaded already by the application, and can be only once.
        module.backends = types.SimpleNamespace(load_backends=lambda: None)  # type: ignore[attr-defined]
        bootstrapper = module.Bootstrapper()
        bootstrapper.admin_username = "admin"
        bootstrapper.admin_password = wanted["admin_password"]
        bootstrapper.project_name = bootstrapper.admin_role_name = "admin"
        bootstrapper.service_name = "keystone"
        bootstrapper.region_id = wanted["region"]
        bootstrapper.immutable_roles = True
        for interface in _INTERFACES:
            setattr(bootstrapper, f"{interface}_url", wanted["identity_url"])
        bootstrapper.bootstrap()

    def ensure_project(self, name: str) -> str:
        """Return the id of a project."""
        resources = self._api.resource_api
        try:
            found = resources.get_project_by_name(name, _DOMAIN)
        except self._errors.ProjectNotFound:
            made = {"id": uuid.uuid4().hex, "name": name, "domain_id": _DOMAIN, "enabled": True}
            found = resources.create_project(made["id"], {**made, "description": ""})
        return str(found["id"])

    def ensure_user(self, name: str, password: str, *, project: str, role: str) -> None:
        """Make a user with one role in one project, and see that the password is this one."""
        users = self._api.identity_api
        project_id = self.ensure_project(project)
        try:
            user = users.get_user_by_name(name, _DOMAIN)
            users.driver.authenticate(user["id"], password)
        except self._errors.UserNotFound:
            user = users.create_user(
                {"name": name, "domain_id": _DOMAIN, "enabled": True, "password": password}
            )
        except AssertionError:  # another password
            user = users.update_user(user["id"], {"password": password})
        role_id = self._api.role_api.list_roles(self._filter(name=role, domain_id=None))[0]["id"]
        try:
            self._api.assignment_api.add_role_to_user_and_project(user["id"], project_id, role_id)
        except self._errors.Conflict:  # has it
            return

    def ensure_service(self, kind: str, name: str, url: str, *, region: str) -> None:
        """Make a service and its endpoints, and see that they are at `url`."""
        catalog = self._api.catalog_api
        found = catalog.list_services(self._filter(type=kind))
        if found:
            service_id = found[0]["id"]
        else:
            service_id = uuid.uuid4().hex
            service = {"id": service_id, "type": kind, "name": name, "enabled": True}
            catalog.create_service(service_id, service)
        endpoints = catalog.list_endpoints(self._filter(service_id=service_id))
        present = {endpoint["interface"]: endpoint for endpoint in endpoints}
        for interface in _INTERFACES:
            endpoint = present.get(interface)
            if endpoint is None:
                endpoint_id = uuid.uuid4().hex
                place = {"service_id": service_id, "region_id": region, "url": url}
                reference = {"id": endpoint_id, "interface": interface, "enabled": True, **place}
                catalog.create_endpoint(endpoint_id, reference)
            elif endpoint["url"] != url:
                catalog.update_endpoint(endpoint["id"], {**endpoint, "url": url})

    def _filter(self, **wanted: str | None) -> Any:
        hints = self._hints()
        for name, value in wanted.items():
            hints.add_filter(name, value)
        return hints


def fill(wanted: dict[str, Any]) -> None:
    """Make what `identity.json` names."""
    identity = Identity()
    identity.bootstrap(wanted)
    for user in wanted["users"]:
        identity.ensure_user(**user)
    identity.ensure_service(
        "object-store", "swift", wanted["object_store_url"], region=wanted["region"]
    )


def _stop(*_: object) -> None:
    """End waitress's loop, which finishes what it has begun."""
    raise SystemExit(0)


def main() -> None:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    application = load_application(arguments.directory)
    fill(json.loads((arguments.directory / "identity.json").read_text()))
    signal.signal(signal.SIGTERM, _stop)
    importlib.import_module("waitress").serve(
        application, host=arguments.host, port=arguments.port, threads=_THREADS, ident=None
    )


if __name__ == "__main__":
    main()
