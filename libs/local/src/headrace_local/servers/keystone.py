"""OpenStack Keystone, the identity service in front of Swift, on SQLite and Fernet tokens."""

import base64
import json
import os
import shutil
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Final

from headrace_local import tools
from headrace_local.addresses import Addresses
from headrace_local.credentials import Credentials
from headrace_local.files import write_private
from headrace_local.ports import LOOPBACK
from headrace_local.privileges import Identity, without_root
from headrace_local.process import Launch
from headrace_local.program import Server

_LAUNCHER: Final = Path(__file__).with_name("keystone_launcher.py")
OPENSTACK_REGION: Final = "RegionOne"
#: Domain of all users and projects.
DOMAIN: Final = "Default"
#: The user of our services, and the project whose objects are theirs.
USER: Final = "headrace"
PROJECT: Final = "headrace"
#: By which Swift asks Keystone what a token is good for.
SWIFT_USER: Final = "swift"
SERVICE_PROJECT: Final = "service"
_FERNET_KEY_BYTES: Final = 32

#: `password_hash_rounds`: the least that bcrypt takes; the passwords are random, and with the
#: default a token takes a second. `max_password_length`: bcrypt's; more makes it warn each time.
#: `cache`: of this process, the only one; a token takes 20 ms with it and 250 without.
_CONFIGURATION: Final = """\
[DEFAULT]
use_stderr = true
public_endpoint = {url}
default_log_levels = keystone=WARNING,oslo=WARNING,waitress=ERROR,stevedore=CRITICAL
[database]
connection = sqlite:///{data}/keystone.db
[token]
provider = fernet
expiration = 3600
[fernet_tokens]
key_repository = {data}/fernet
[fernet_receipts]
key_repository = {data}/fernet
[credential]
key_repository = {data}/credential
[identity]
password_hash_rounds = 4
max_password_length = 72
[cache]
enabled = true
backend = oslo_cache.dict
expiration_time = 600
"""


class Keystone(Server):
    """The identity service."""

    name = "keystone"

    def __init__(
        self,
        data: Path,
        environment: Mapping[str, str],
        *,
        credentials: Credentials,
        object_store_port: int | None = None,
        addresses: Addresses = Addresses(),  # noqa: B008 - frozen
    ) -> None:
        """Make it.

        Args:
            data: its data directory, which exists.
            environment: what every process of the stack gets.
            credentials: have its users' passwords.
            object_store_port: of Swift in the catalogue, where that is not Swift's own.
            addresses: where it listens, and where it and Swift are reached.
        """
        super().__init__(data, environment)
        self._credentials = credentials
        self._object_store_port = object_store_port
        self._addresses = addresses

    @cached_property
    def _python(self) -> Path:
        return tools.ensure_openstack()

    @cached_property
    def _user(self) -> Identity:
        return without_root([self._python, self.data], program="Keystone")

    @property
    def auth_url(self) -> str:
        """Where version 3 of the API is."""
        return identity_url(self.port, host=self._addresses.keystone)

    def prepare(self) -> None:
        """Make the database and keys if there are none yet, and write what it should know."""
        self._user.own(self.data)
        self._copy_database(self.data / "keystone.db")
        for name in ("fernet", "credential"):
            self._make_keys(self.data / name)
        configuration = _CONFIGURATION.format(url=self.auth_url.removesuffix("/v3"), data=self.data)
        identity = json.dumps(self._identity())
        for name, text in (("keystone.conf", configuration), ("identity.json", identity)):
            write_private(self.data / name, text)
            self._user.own(self.data / name)

    def _copy_database(self, path: Path) -> None:
        if path.exists():
            return
        unfinished = path.with_suffix(".new")
        unfinished.touch(mode=0o600)
        shutil.copyfile(tools.empty_keystone_database(self._python), unfinished)
        self._user.own(unfinished)
        unfinished.rename(path)

    def _make_keys(self, repository: Path) -> None:
        """Make the primary and the next key, as `keystone-manage fernet_setup` does."""
        if repository.exists():
            return
        unfinished = repository.with_suffix(".new")
        if unfinished.exists():  # killed before it was whole
            shutil.rmtree(unfinished)
        unfinished.mkdir(mode=0o700)
        for name in ("0", "1"):
            key = base64.urlsafe_b64encode(os.urandom(_FERNET_KEY_BYTES)).decode()
            write_private(unfinished / name, key, durable=True)
            self._user.own(unfinished / name)
        self._user.own(unfinished)
        unfinished.rename(repository)

    def _identity(self) -> dict[str, object]:
        swift = {"name": SWIFT_USER, "password": self._credentials.swift_password}
        ours = {"name": USER, "password": self._credentials.openstack_password}
        port = self._object_store_port or self._ports["swift"]
        return {
            "region": OPENSTACK_REGION,
            "identity_url": self.auth_url,
            "object_store_url": f"http://{self._addresses.swift}:{port}/v1/AUTH_%(project_id)s",
            "admin_password": self._credentials.keystone_admin_password,
            "users": [
                {**swift, "project": SERVICE_PROJECT, "role": "admin"},
                {**ours, "project": PROJECT, "role": "member"},
            ],
        }

    def launch(self) -> Launch:
        """Return how to start it."""
        command = self._user.command(
            *(self._python, "-I", "-W", "ignore", _LAUNCHER, "--directory", self.data),
            *("--host", self._addresses.listen, "--port", str(self.port)),
        )
        return Launch(
            command,
            {**self.environment, "HOME": str(self.data)},
            cwd=self.data,
            uid=self._user.spawn_uid,
            gid=self._user.spawn_gid,
        )

    def probe(self) -> None:
        """Ask for a token with our services' password."""
        from headrace_local.openstack import ask_token  # noqa: PLC0415 - loads while it starts

        ask_token(self.auth_url, password=self._credentials.openstack_password)


def identity_url(port: int, *, host: str = LOOPBACK) -> str:
    """Return the address of version 3 of the API of the Keystone on `port`."""
    return f"http://{host}:{port}/v3"
