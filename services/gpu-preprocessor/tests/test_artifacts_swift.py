"""The store, on real Swift and Keystone: its promises, and what it does when they fail."""

import hashlib
import hmac
import logging
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import quote, unquote, urlsplit

import httpx
import pytest
import swiftclient
from artifact_scene import MakeStore
from keystoneauth1 import exceptions as keystone
from prometheus_client import REGISTRY
from pydantic import ValidationError

from headrace_common.artifact_sets import generate_signing_key, signing_key_text
from headrace_gpu_preprocessor.artifacts import SwiftSettings, SwiftStore
from headrace_gpu_preprocessor.artifacts.errors import (
    ObjectTooLargeError,
    SwiftError,
    SwiftMisconfiguredError,
    SwiftRefusedError,
    SwiftUnauthorizedError,
    SwiftUnavailableError,
)
from headrace_local.pytest_plugin import LocalServers

TEXT = "text/plain"


def count(operation: str, outcome: str) -> float:
    labels = {"operation": operation, "outcome": outcome}
    name = "headrace_swift_request_duration_seconds_count"
    return REGISTRY.get_sample_value(name, labels) or 0


def test_an_object_is_stored_once_and_read_back(swift_store: SwiftStore) -> None:
    name, data = "preprocess/카메라 1/a?b#c%20d/x.txt", bytes(range(256)) * 4
    put = swift_store.put_new(name, data, TEXT)
    assert put.created
    assert put.head.bytes == len(data)
    assert put.head.md5 == hashlib.md5(data, usedforsecurity=False).hexdigest()
    assert put.head.sha256 == hashlib.sha256(data).hexdigest()
    assert put.head.content_type == TEXT
    again = swift_store.put_new(name, b"other", TEXT)
    assert again.created is False
    assert again.head == put.head == swift_store.head(name)
    assert swift_store.get(name) == data
    swift_store.put(name, b"written over", TEXT)
    assert swift_store.get(name) == b"written over"
    assert swift_store.list_names("preprocess/") == [name]
    assert swift_store.list_folders("preprocess/") == ["preprocess/카메라 1/"]
    swift_store.delete(name)
    swift_store.delete(name)
    assert (swift_store.get(name), swift_store.head(name)) == (None, None)
    assert swift_store.list_names("") == []


def test_an_empty_object_and_one_that_is_too_large(swift_store: SwiftStore) -> None:
    swift_store.put_new("empty", b"", TEXT)
    assert swift_store.get("empty") == b""
    swift_store.put_new("large", bytes(3_000_000), TEXT)
    assert swift_store.get("large", most_bytes=3_000_000) == bytes(3_000_000)
    with pytest.raises(ObjectTooLargeError):
        swift_store.get("large", most_bytes=2_999_999)
    assert swift_store.get("empty") == b"", "the connection is still good"


def test_a_missing_container_is_empty_until_something_is_written(
    make_swift_store: MakeStore,
) -> None:
    reader, writer = make_swift_store(), make_swift_store()
    reader.ping()
    assert (reader.get("a"), reader.head("a")) == (None, None)
    assert reader.list_names("") == reader.list_folders("") == []
    reader.delete("a")
    assert writer.put_new("a", b"1", TEXT).created
    assert reader.get("a") == b"1"


def test_a_container_that_was_deleted_is_made_again(
    swift_store: SwiftStore, swift_settings: SwiftSettings
) -> None:
    swift_store.put_new("a", b"1", TEXT)
    swift_store.delete("a")
    swift_store._connections.call(
        "test", lambda it: it.delete_container(swift_settings.swift_container)
    )
    assert swift_store.put_new("a", b"2", TEXT).created
    assert swift_store.get("a") == b"2"


def test_a_container_that_cannot_be_made_is_no_objects_fault(swift_store: SwiftStore) -> None:
    with (
        _spoilt(swift_store, *[_answer("404 Not Found")] * 3),
        pytest.raises(SwiftMisconfiguredError, match="404"),
    ):
        swift_store.put_new("a", b"1", TEXT)


def test_many_make_the_container_at_once(make_swift_store: MakeStore) -> None:
    stores = [make_swift_store() for _ in range(6)]
    with ThreadPoolExecutor(len(stores)) as pool:
        list(pool.map(SwiftStore.ensure_container, stores))
        puts = list(pool.map(lambda each: each.put_new("a", b"same", TEXT), stores))
    assert len({put.head.md5 for put in puts}) == 1
    assert any(put.created for put in puts)


def test_threads_share_a_store(swift_store: SwiftStore) -> None:
    swift_store.ensure_container()

    def work(number: int) -> bool:
        data = str(number).encode() * 1000
        name = f"object-{number}"
        return swift_store.put_new(name, data, TEXT).created and swift_store.get(name) == data

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(30)))


def _signed(url: str, key: str) -> str:
    """Sign as the results service does."""
    expires = int(time.time()) + 60
    text = f"GET\n{expires}\n{unquote(urlsplit(url).path)}"  # Swift signs names as they are
    signature = hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()
    return f"{url}?temp_url_sig={signature}&temp_url_expires={expires}"


def test_links_are_signed_with_the_containers_keys(
    make_swift_store: MakeStore, swift_settings: SwiftSettings
) -> None:
    old = make_swift_store()
    old.put_new("a b", b"1", TEXT)
    url = f"{old.public_storage_url()}/{old.container}/{quote('a b')}"
    assert swift_settings.swift_temp_url_key is not None
    old_key = swift_settings.swift_temp_url_key.get_secret_value()
    new_key = "a-new-key-of-some-length"
    assert httpx.get(_signed(url, old_key), timeout=30).content == b"1"
    assert httpx.get(_signed(url, new_key), timeout=30).status_code == 401
    assert httpx.get(url, timeout=30).status_code == 401
    make_swift_store(swift_temp_url_key=new_key, swift_temp_url_key_2=old_key).ensure_container()
    links = [_signed(url, key) for key in (old_key, new_key)]
    assert {httpx.get(link, timeout=30).status_code for link in links} == {200}


#: Swift does what is asked for, and its answer is lost, or half of it.
_LOSE, _CUT = b"lose", b"cut"


@contextmanager
def _front(answers: list[bytes], url: str) -> Iterator[str]:
    """Stand before Swift and spoil as many answers as there are in `answers`."""
    target = urlsplit(url)
    listener = socket.create_server(("127.0.0.1", 0))
    stopping = threading.Event()

    def serve() -> None:
        while not stopping.is_set():
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                _relay(client, (target.hostname or "", target.port or 80), answers)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}{target.path}"
    finally:
        stopping.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def _relay(client: socket.socket, target: tuple[str, int], answers: list[bytes]) -> None:
    """Pass one request on and its answer back, or do what the next of `answers` says; close."""
    client.settimeout(30)
    request = b""
    while b"\r\n\r\n" not in request:
        request += client.recv(65_536)
    head, _, body = request.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
    sizes = [line.split(b":")[1] for line in lines if line.lower().startswith(b"content-length:")]
    while len(body) < int(sizes[0] if sizes else 0):
        body += client.recv(65_536)
    spoilt = answers.pop(0) if answers else None
    if spoilt not in {None, _LOSE, _CUT}:
        client.sendall(spoilt or b"")
        return
    with socket.create_connection(target, 30) as server:
        server.sendall(b"\r\n".join([*lines, b"Connection: close", b"", b""]) + body)
        answer = b""
        while piece := server.recv(65_536):
            answer += piece
    client.sendall({None: answer, _LOSE: b"", _CUT: answer[: len(answer) // 2]}[spoilt])


def _answer(status: str, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", "Content-Length: 0", "Connection: close", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@contextmanager
def _spoilt(store: SwiftStore, *answers: bytes) -> Iterator[list[bytes]]:
    """Let the store talk to Swift through a front; yield the answers that are still to come."""
    store.ensure_container()
    left = list(answers)
    with _front(left, store.public_storage_url()) as url, pytest.MonkeyPatch.context() as patch:
        patch.setattr(store._connections.identity, "storage_url", lambda *_: url)
        yield left


def test_what_may_pass_is_repeated(swift_store: SwiftStore) -> None:
    swift_store.ensure_container()
    answers = [
        _answer("503 Service Unavailable", "Retry-After: 1"),
        _answer("408 Request Timeout"),
        _answer("422 Unprocessable Entity"),
        _answer("429 Too Many Requests", "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT"),
    ]
    checks: list[int] = []
    with _spoilt(swift_store, *answers) as left:
        started = time.monotonic()
        put = swift_store.put_new("a", b"1" * 100_000, TEXT, check=lambda: checks.append(len(left)))
    assert put.created
    assert time.monotonic() - started > 1, "Retry-After is honoured"
    assert checks == [4, 3, 2, 1, 0], "the lease is looked at before each request"
    assert swift_store.get("a") == b"1" * 100_000


def test_a_lost_answer_is_found_out(swift_store: SwiftStore) -> None:
    """Swift has the object, we do not know: the repeated request finds it, and its hash is ours."""
    swift_store.ensure_container()
    with _spoilt(swift_store, _LOSE):
        put = swift_store.put_new("a", b"mine", TEXT)
    assert put.created is False
    assert put.head.md5 == hashlib.md5(b"mine", usedforsecurity=False).hexdigest()


def test_a_cut_download_is_repeated(swift_store: SwiftStore) -> None:
    swift_store.put_new("a", b"x" * 400_000, TEXT)
    with _spoilt(swift_store, _CUT):
        assert swift_store.get("a") == b"x" * 400_000


def test_what_does_not_pass_is_not_repeated(swift_store: SwiftStore) -> None:
    for status, code, retryable in (
        ("413 Request Entity Too Large", "swift_full", True),
        ("507 Insufficient Storage", "swift_full", True),
        ("403 Forbidden", "swift_unauthorized", False),
        ("401 Unauthorized", "swift_unauthorized", False),
        ("400 Bad Request", "swift_refused", False),
    ):
        times = 2 if status.startswith("401") else 1  # once more with a new token
        answers = [_answer(status)] * times + [_answer("500 Too Often")] * 9
        with _spoilt(swift_store, *answers) as left, pytest.raises(SwiftError) as raised:
            swift_store.put_new("a", b"1", TEXT)
        assert (raised.value.code, raised.value.retryable) == (code, retryable)
        assert status[:3] in raised.value.detail
        assert len(left) == 9


def test_a_long_wait_is_left_to_the_jobs_retry(swift_store: SwiftStore) -> None:
    answers = [_answer("503 Service Unavailable", "Retry-After: 120")]
    with _spoilt(swift_store, *answers):
        started = time.monotonic()
        with pytest.raises(SwiftUnavailableError) as raised:
            swift_store.get("a")
    assert raised.value.retry_after == 120
    assert raised.value.retryable
    assert time.monotonic() - started < 60


def test_swift_refuses_odd_names(swift_store: SwiftStore) -> None:
    with pytest.raises(SwiftRefusedError, match="400"):
        swift_store.put_new("a" * 1025, b"1", TEXT)


def _revoke(settings: SwiftSettings, token: str) -> None:
    answer = httpx.delete(
        f"{settings.os_auth_url}/auth/tokens",
        headers={"x-auth-token": token, "x-subject-token": token},
        timeout=30,
    )
    assert answer.status_code == 204


def test_a_revoked_token_is_replaced(
    swift_store: SwiftStore, swift_settings: SwiftSettings
) -> None:
    swift_store.put_new("a", b"1", TEXT)
    identity = swift_store._connections.identity
    identity.forget(identity.token())  # Swift remembers those that it has seen for a while
    revoked = identity.token()
    _revoke(swift_settings, revoked)
    refused = count("put", "swift_unauthorized")
    assert swift_store.put_new("b", b"2" * 100_000, TEXT).created
    assert swift_store.get("b") == b"2" * 100_000
    assert identity.token() != revoked
    assert count("put", "swift_unauthorized") == refused


def test_threads_replace_a_token_once(
    swift_store: SwiftStore, swift_settings: SwiftSettings
) -> None:
    swift_store.ensure_container()
    identity = swift_store._connections.identity
    identity.forget(identity.token())
    revoked = identity.token()
    _revoke(swift_settings, revoked)
    with ThreadPoolExecutor(4) as pool:
        puts = pool.map(lambda number: swift_store.put_new(f"a{number}", b"1", TEXT), range(8))
        assert all(put.created for put in puts)


def test_a_token_that_is_about_to_end_is_not_used(swift_store: SwiftStore) -> None:
    swift_store.get("a")
    session = swift_store._connections.identity._session
    assert session.auth is not None
    access = session.auth.auth_ref  # type: ignore[attr-defined]
    first = access.auth_token
    access._data["token"]["expires_at"] = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
    swift_store.get("a")
    assert swift_store._connections.identity.token() != first


def test_a_wrong_password_is_said_plainly(make_swift_store: MakeStore) -> None:
    store = make_swift_store(os_password="wrong-password")
    with pytest.raises(SwiftUnauthorizedError, match="OS_PASSWORD") as raised:
        store.put_new("a", b"1", TEXT)
    assert not raised.value.retryable
    assert store._settings.os_username in raised.value.detail
    assert "wrong-password" not in raised.value.detail
    with pytest.raises(SwiftUnauthorizedError, match="no-such-project"):
        make_swift_store(os_project_name="no-such-project").get("a")


def test_wrong_places_are_said_plainly(
    make_swift_store: MakeStore, swift_settings: SwiftSettings
) -> None:
    with pytest.raises(SwiftMisconfiguredError, match="OS_REGION_NAME"):
        make_swift_store(os_region_name="Nowhere").get("a")
    elsewhere = urlsplit(make_swift_store().public_storage_url())
    with pytest.raises(SwiftMisconfiguredError, match="Keystone at"):
        make_swift_store(os_auth_url=f"http://{elsewhere.netloc}/healthcheck").get("a")
    with pytest.raises(SwiftUnavailableError, match="does not answer"):
        make_swift_store(os_auth_url="http://127.0.0.1:9", swift_retries=0).get("a")
    with pytest.raises(SwiftUnavailableError, match="does not answer"):
        make_swift_store(os_auth_url="http://no-such-host.invalid", swift_retries=0).get("a")


def test_nothing_secret_is_logged(
    swift_store: SwiftStore, swift_settings: SwiftSettings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    swift_store.put_new("a", b"1", TEXT)
    swift_store.get("missing")
    key = swift_settings.swift_temp_url_key
    assert key is not None
    for secret in (
        swift_store._connections.identity.token()[:20],
        swift_settings.os_password.get_secret_value(),
        key.get_secret_value(),
    ):
        assert secret not in caplog.text
        assert secret not in repr(swift_settings)


@pytest.fixture
def servers(local_servers: LocalServers) -> Iterator[LocalServers]:
    """Servers that are treated badly here, and well again for the next test."""
    yield local_servers
    local_servers.require("keystone", "swift")
    local_servers.wait_ready("keystone", "swift")


def test_swift_dies_and_comes_back(make_swift_store: MakeStore, servers: LocalServers) -> None:
    store = make_swift_store(swift_retries=20)  # it takes its time to start on a busy machine
    store.put_new("a", b"1" * 1_000_000, TEXT)
    servers.kill("swift")
    assert store.put_new("b", b"2", TEXT).created
    assert store.get("a") == b"1" * 1_000_000, "what was acknowledged is there"


def test_swift_is_away(make_swift_store: MakeStore, servers: LocalServers) -> None:
    store = make_swift_store(swift_retries=1)
    store.put_new("a", b"1", TEXT)
    servers.stop("swift")
    for call in (lambda: store.put_new("b", b"2", TEXT), lambda: store.get("a"), store.ping):
        with pytest.raises(SwiftUnavailableError, match="Swift does not answer") as raised:
            call()
        assert raised.value.retryable
    servers.start("swift")
    assert store.get("a") == b"1"
    assert store.get("b") is None


def test_keystone_is_away(make_swift_store: MakeStore, servers: LocalServers) -> None:
    known, new = make_swift_store(), make_swift_store(swift_retries=1)
    known.put_new("a", b"1", TEXT)
    servers.stop("keystone")
    try:
        assert known.get("a") == b"1", "a token that Swift knows still serves"
        with pytest.raises(SwiftUnavailableError, match=r"Keystone at .* does not answer"):
            new.get("a")
    finally:
        servers.start("keystone")
    assert new.get("a") == b"1"


_HASTY = {"swift_read_timeout_seconds": 0.5, "swift_retries": 1}


@pytest.mark.parametrize("server", ["swift", "keystone"])
def test_a_server_that_hangs_ends_in_time(
    make_swift_store: MakeStore, servers: LocalServers, server: str
) -> None:
    patient, hasty = make_swift_store(), make_swift_store(**_HASTY)
    patient.get("a")
    if server == "swift":  # with a token
        hasty._connections.identity._session = patient._connections.identity._session
    servers.kill(server, signal.SIGSTOP)
    try:
        started = time.monotonic()
        with pytest.raises(SwiftUnavailableError, match="does not answer"):
            hasty.put_new("a", b"1", TEXT)
        assert time.monotonic() - started < 25, "below what a patient one waits for an answer"
    finally:
        servers.kill(server, signal.SIGCONT)
    assert patient.put_new("b", b"1", TEXT).created


@pytest.mark.parametrize("server", ["swift", "keystone"])
def test_asking_whether_swift_is_well_does_not_take_long(
    make_swift_store: MakeStore, servers: LocalServers, server: str
) -> None:
    store = make_swift_store(swift_read_timeout_seconds=30)
    servers.kill(server, signal.SIGSTOP)
    try:
        started = time.monotonic()
        with pytest.raises(SwiftUnavailableError, match="does not answer"):
            store.ping()
        assert time.monotonic() - started < 25
    finally:
        servers.kill(server, signal.SIGCONT)
    store.ping()


def test_of_two_writers_in_flight_the_later_begun_stays(swift_store: SwiftStore) -> None:
    """A writer that freezes within its request cannot write over who came after it (ADR 10)."""
    swift_store.ensure_container()
    url = urlsplit(f"{swift_store.public_storage_url()}/{swift_store.container}/a")
    token = swift_store._connections.identity.token()
    head = (
        f"PUT {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nX-Auth-Token: {token}\r\n"
        "If-None-Match: *\r\nContent-Length: 6\r\nExpect: 100-continue\r\n\r\n"
    )
    with socket.create_connection((url.hostname or "", url.port or 80), 60) as frozen:
        frozen.sendall(head.encode())
        assert b"100 Continue" in frozen.recv(1000), "Swift has let the first writer in"
        assert swift_store.put_new("a", b"second", TEXT).created
        frozen.sendall(b"frozen")
        assert frozen.recv(1000).startswith(b"HTTP/1.1 201"), "it is told that it was first"
    assert swift_store.get("a") == b"second"


def test_settings() -> None:
    good = {
        "os_auth_url": "https://keystone.example.org:5000/",
        "os_username": "u",
        "os_password": "p",
        "os_project_name": "n",
    }
    settings = SwiftSettings.model_validate(good)
    assert settings.os_auth_url == "https://keystone.example.org:5000/v3"
    assert (settings.swift_container, settings.swift_upload_prefix) == (
        "cctv-preprocess",
        "preprocess/",
    )
    assert settings.signing_key() is None
    key = generate_signing_key()
    signing = SwiftSettings.model_validate({**good, "meta_signing_key": signing_key_text(key)})
    made = signing.signing_key()
    assert made is not None
    assert made.public_key() == key.public_key()
    for name, value in (
        ("os_auth_url", "https://keystone.example.org/v2.0"),
        ("os_auth_url", "keystone"),
        ("swift_container", "a/b"),
        ("swift_upload_prefix", "/a"),
        ("swift_temp_url_key", "short"),
        ("swift_temp_url_key", "with a space and enough"),
        ("meta_signing_key", "nonsense"),
    ):
        with pytest.raises(ValidationError) as raised:
            SwiftSettings.model_validate({**good, name: value})
        assert raised.value.errors()[0]["loc"] == (name,)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (keystone.ServiceUnavailable(retry_after=7), SwiftUnavailableError),
        (keystone.GatewayTimeout(), SwiftUnavailableError),
        (keystone.TooManyRequests(), SwiftUnavailableError),
        (keystone.Forbidden(), SwiftUnauthorizedError),
        (keystone.NotFound(), SwiftMisconfiguredError),
        (keystone.EmptyCatalog(), SwiftMisconfiguredError),
        (swiftclient.ClientException("Unsupported scheme"), SwiftMisconfiguredError),
        (ConnectionResetError(), SwiftUnavailableError),
    ],
)
def test_what_errors_mean(
    swift_store: SwiftStore, error: Exception, kind: type[SwiftError]
) -> None:
    told = swift_store._connections._translate(error)
    assert type(told) is kind
    assert told.retry_after == (7 if getattr(error, "retry_after", 0) == 7 else None)
