"""OpenStack Swift, its four servers in one process, in front of one device."""

import json
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Final

from headrace_local import tools
from headrace_local.addresses import Addresses
from headrace_local.credentials import Credentials
from headrace_local.errors import LocalStackError
from headrace_local.files import write_private
from headrace_local.ports import LOOPBACK, Offsets
from headrace_local.privileges import Identity, without_root
from headrace_local.process import Launch
from headrace_local.program import Server
from headrace_local.servers import swift_configuration as configuration
from headrace_local.servers.keystone import Keystone, identity_url

_LAUNCHER: Final = Path(__file__).with_name("swift_launcher.py")
_STORAGE: Final = ("account", "container", "object")


class Swift(Server):
    """The object store; Keystone says who may use it."""

    name = "swift"
    needs: ClassVar[tuple[str, ...]] = (Keystone.name,)
    stop_grace: ClassVar[float] = 10

    def __init__(
        self,
        data: Path,
        environment: Mapping[str, str],
        *,
        credentials: Credentials,
        addresses: Addresses = Addresses(),  # noqa: B008 - frozen
    ) -> None:
        """Make it.

        Args:
            data: its data directory, which exists.
            environment: what every process of the stack gets.
            credentials: have its password at Keystone, and what makes its objects' paths
                hard to guess, which may never change.
            addresses: where its proxy listens, and where Keystone is reached.
        """
        super().__init__(data, environment)
        self._credentials = credentials
        self._addresses = addresses

    def wanted_ports(self) -> Mapping[str, Offsets]:
        """Return the proxy's port, and those of the servers behind it."""
        return {self.name: (), **{f"{self.name}-{part}": () for part in _STORAGE}}

    @cached_property
    def _python(self) -> Path:
        return tools.ensure_openstack()

    @cached_property
    def _user(self) -> Identity:
        return without_root([self._python, self.data], program="Swift")

    def prepare(self) -> None:
        """Write the configuration."""
        _require_extended_attributes(self.data)
        self._user.own(self.data)
        files = {
            "swift.conf": configuration.cluster(
                prefix=self._credentials.swift_hash_prefix,
                suffix=self._credentials.swift_hash_suffix,
            ),
            "proxy-server.conf": configuration.proxy(
                self.data,
                self.port,
                host=self._addresses.listen,
                auth_url=identity_url(self._ports[Keystone.name], host=self._addresses.keystone),
                password=self._credentials.swift_password,
                storage_key=self._credentials.swift_storage_key,
            ),
            "ports.json": json.dumps({part: self._ports[f"swift-{part}"] for part in _STORAGE}),
        }
        for part in _STORAGE:
            files[f"{part}-server.conf"] = configuration.storage(
                part,
                self.data,
                self._ports[f"swift-{part}"],
                storage_key=self._credentials.swift_storage_key,
            )
        for name, text in files.items():
            write_private(self.data / name, text)
            self._user.own(self.data / name)

    def launch(self) -> Launch:
        """Return how to start it."""
        return Launch(
            self._user.command(
                self._python, "-I", "-W", "ignore", _LAUNCHER, "--directory", self.data
            ),
            {**self.environment, "HOME": str(self.data)},
            cwd=self.data,
            uid=self._user.spawn_uid,
            gid=self._user.spawn_gid,
        )

    def probe(self) -> None:
        """Write an object with a token."""
        from headrace_local.openstack import ask_token, put_object  # noqa: PLC0415 - loads while it starts

        password = self._credentials.openstack_password
        token = ask_token(identity_url(self._ports[Keystone.name]), password=password)
        put_object(token, host=f"{LOOPBACK}:{self.port}")


def _require_extended_attributes(directory: Path) -> None:
    """Fail with a reason where Swift could not keep an object's metadata."""
    probe = directory / ".attributes"
    probe.touch(mode=0o600)
    try:
        os.setxattr(probe, "user.headrace", b"1")
    except OSError as error:
        raise LocalStackError(
            f"Swift keeps metadata in extended attributes, and the file system of {directory} has "
            f"none ({error.strerror}); have the stack elsewhere (--directory, HEADRACE_HOME)"
        ) from None
    finally:
        probe.unlink()
