"""Keystone and Swift as services use them: durable across kills, closed to everybody else."""

import hmac
import os
import socket
import stat
import time
from hashlib import sha256
from pathlib import Path

import httpx
import psutil
import pytest
from local_harness import StartStack

from headrace_local import control
from headrace_local.errors import LocalStackError
from headrace_local.openstack import Token, ask_token
from headrace_local.process import marked_processes
from headrace_local.pytest_plugin import LocalServers
from headrace_local.servers import swift
from headrace_local.state import StackState
from headrace_local.waiting import wait_until

pytestmark = pytest.mark.stack

_CONTAINER = "kept"


def _token(state: StackState) -> Token:
    return ask_token(state.env["OS_AUTH_URL"], password=state.env["OS_PASSWORD"])


def _ask(token: Token, method: str, path: str = "", **options: object) -> httpx.Response:
    url = f"{token.object_store_url}/{_CONTAINER}{path}"
    headers = {"X-Auth-Token": token.text}
    return httpx.request(method, url, headers=headers, timeout=30, **options)  # type: ignore[arg-type]


def _put(token: Token, name: str, content: bytes) -> None:
    _ask(token, "PUT").raise_for_status()
    _ask(token, "PUT", f"/{name}", content=content).raise_for_status()


@pytest.fixture
def servers(local_servers: LocalServers) -> LocalServers:
    return local_servers.require("swift")


def test_swift_brings_keystone_along(servers: LocalServers) -> None:
    assert servers.process("keystone").state == "ready"
    token = _token(servers.state)
    assert token.object_store_url.startswith(servers.state.env["SWIFT_STORAGE_URLS"] + "/v1/AUTH_")


def test_swift_keeps_objects_when_killed(servers: LocalServers) -> None:
    token = _token(servers.state)
    _put(token, "when-killed", b"value")

    def listed() -> list[tuple[str, int]]:
        found = _ask(token, "GET", params={"format": "json", "prefix": "when-"}).json()
        return [(entry["name"], entry["bytes"]) for entry in found]

    # The list follows an object at its own pace: Swift promises no more.
    wait_until(lambda: listed() == [("when-killed", 5)])
    servers.kill("swift")
    servers.wait_ready("swift")

    assert _ask(token, "GET", "/when-killed").content == b"value"
    assert listed() == [("when-killed", 5)]


def test_tokens_outlive_a_kill_of_keystone_and_a_restart_of_both(servers: LocalServers) -> None:
    token = _token(servers.state)
    _put(token, "token", b"value")

    servers.kill("keystone")
    servers.wait_ready("keystone")
    assert _ask(token, "GET", "/token").content == b"value"
    servers.restart("swift", "keystone")

    # Nothing of it is in Swift's memory now: Keystone itself still knows it.
    assert _ask(token, "GET", "/token").content == b"value"
    assert _ask(_token(servers.state), "GET", "/token").content == b"value"


def test_an_object_is_not_written_over_by_the_careful(servers: LocalServers) -> None:
    token = _token(servers.state)
    _put(token, "once", b"first")
    url = f"{token.object_store_url}/{_CONTAINER}/once"
    headers = {"X-Auth-Token": token.text, "If-None-Match": "*"}

    refused = httpx.put(url, headers=headers, content=b"second", timeout=30)
    assert refused.status_code == 412
    assert _ask(token, "GET", "/once").content == b"first"


def test_nobody_gets_in_without_a_token(servers: LocalServers) -> None:
    token = _token(servers.state)
    _put(token, "secret", b"value")
    stranger = Token("no-token", token.object_store_url)
    env = servers.state.env

    assert _ask(stranger, "GET", "/secret").status_code == 401
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        ask_token(env["OS_AUTH_URL"], password=env["OS_PASSWORD"] + "x")
    # The servers behind the proxy know no users; only the proxy may ask them.
    for part in ("account", "container", "object"):
        port = servers.state.ports[f"swift-{part}"]
        url = f"http://127.0.0.1:{port}/d1/0/AUTH_x/c/o"
        assert httpx.get(url, timeout=30).status_code == 403


def test_a_signed_link_opens_one_object_for_a_while(servers: LocalServers) -> None:
    token, key = _token(servers.state), servers.state.env["SWIFT_TEMP_URL_KEY"]
    _put(token, "linked", b"value")
    container = f"{token.object_store_url}/{_CONTAINER}"
    headers = {"X-Auth-Token": token.text, "X-Container-Meta-Temp-URL-Key": key}
    httpx.post(container, headers=headers, timeout=30).raise_for_status()

    def link(name: str, seconds: int) -> httpx.Response:
        expires = int(time.time()) + seconds
        path = httpx.URL(f"{container}/linked").path
        signature = hmac.new(key.encode(), f"GET\n{expires}\n{path}".encode(), sha256).hexdigest()
        params = {"temp_url_sig": signature, "temp_url_expires": str(expires)}
        return httpx.get(f"{container}/{name}", params=params, timeout=30)

    assert link("linked", 60).content == b"value"
    assert link("linked", -1).status_code == 401
    assert link("other", 60).status_code == 401


def test_they_move_to_other_ports_with_everything(directory: Path, start_stack: StartStack) -> None:
    before = start_stack(servers=["swift"], services=False).state
    _put(_token(before), "moved", b"value")
    _check_privacy(before)
    control.down(directory)
    names = ("keystone", "swift", "swift-account", "swift-container", "swift-object")
    takers = [socket.create_server(("127.0.0.1", before.ports[name])) for name in names]
    try:
        after = start_stack(servers=["swift"], services=False).state
    finally:
        for taker in takers:
            taker.close()

    assert not {after.ports[name] for name in names} & {before.ports[name] for name in names}
    token = _token(after)
    assert token.object_store_url.startswith(after.env["SWIFT_STORAGE_URLS"])
    assert _ask(token, "GET", "/moved").content == b"value"


def _check_privacy(state: StackState) -> None:
    """No secret can be seen by others, and nothing can be reached from elsewhere."""
    secrets = [
        value
        for name, value in state.env.items()
        if name in {"OS_PASSWORD", "SWIFT_TEMP_URL_KEY", "META_SIGNING_KEY"}
    ]
    assert len(secrets) == 3
    for process in marked_processes(state.directory):
        assert not [secret for secret in secrets if secret in " ".join(process.cmdline())]
        for connection in process.net_connections("inet"):
            assert connection.laddr.ip == "127.0.0.1"
    if os.geteuid() == 0:
        names = {state.process(name) for name in ("keystone", "swift")}
        users = {psutil.Process(record.pid).username() for record in names if record}
        assert users == {"nobody"}
    data = state.directory / "data"
    files = [
        *(data / "keystone" / name for name in ("keystone.db", "identity.json", "fernet/1")),
        *(data / "swift" / name for name in ("proxy-server.conf", "swift.conf")),
    ]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    for name in ("keystone", "swift"):
        assert stat.S_IMODE((data / name).stat().st_mode) == 0o700


def test_a_file_system_that_cannot_hold_swift_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "setxattr", refuse)

    with pytest.raises(LocalStackError, match="extended attributes"):
        swift._require_extended_attributes(tmp_path)
    assert list(tmp_path.iterdir()) == []
