"""The guard refuses every road inside, and never waits or reads without end."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_common.errors import HeadraceError
from headrace_common.netaddress import refusal, split_url
from headrace_common.netguard import (
    AddressRefusedError,
    FetchLimits,
    FetchTimeoutError,
    FetchTooLargeError,
    NetGuard,
    NetworkPolicy,
    RedirectsRefusedError,
    TruncatedError,
    UnreachableError,
    UpstreamStatusError,
    UrlRefusedError,
)
from headrace_local.ports import reserve_port

_FAST = FetchLimits(connect_seconds=2, silence_seconds=0.4, total_seconds=1.2, max_bytes=100_000)
#: Where a server answers, however busy the machine is.
_PATIENT = FetchLimits(max_bytes=100_000)
_LOCAL = NetworkPolicy(allowed_hosts=("127.0.0.1", "cam.test"))
Answer = Callable[[socket.socket], None]


def _say(*parts: bytes) -> Answer:
    return lambda connection: connection.sendall(b"".join(parts))


def _body(body: bytes, status: str = "200 OK", *headers: str) -> Answer:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return _say("\r\n".join(lines).encode(), body)


@contextmanager
def _server(*answers: Answer) -> Iterator[tuple[int, list[bytes]]]:
    """Serve one connection for each answer, on loopback, and keep what was asked."""
    asked: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for answer in answers:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                asked.append(connection.recv(65_536))
                try:
                    answer(connection)
                except OSError:
                    continue  # the guard hung up, as it should

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1], asked
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(60)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "concat:http://example.org/a|file:///etc/passwd",
        "crypto+http://example.org/a",
        "data:text/plain,a",
        "ftp://example.org/a",
        "//example.org/a",
        "http:///a",
        "http://user:secret@example.org/",
        "http://example.org@127.0.0.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7f.1/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://127.0.0.1.0x1/",
        "http://[::1/",
        "http://127.0.0.1%00.example.org/",
        "http://example.org\\@127.0.0.1/",
        "http://example.org/ a",
        "http://example.org/\r\nHost: inside",
        "http://example.org:99999/",
        "http://exa_mple..org/",
        "http://" + "a" * 5000,
        "http://example.org/é",
    ],
)
def test_a_url_that_can_be_read_in_two_ways_is_refused(url: str) -> None:
    with pytest.raises(UrlRefusedError):
        split_url(url)


def test_full_width_digits_are_read_as_the_address_that_they_become() -> None:
    assert split_url("http://127。0。0。1/")[1] == "127.0.0.1"
    assert split_url("http://Example.ORG./x?y=1") == ("http", "example.org", 80, "/x?y=1")
    assert split_url("https://[2606:4700::1]:8443") == ("https", "2606:4700::1", 8443, "/")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.5.4", "192.168.1.1", "100.64.0.1",
        "192.0.2.1",
        "198.18.0.1", "169.254.169.254", "0.1.2.3", "255.255.255.255", "224.0.0.1", "168.63.129.16",
        "100.100.100.200", "192.0.0.192", "::1", "::", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
        "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::1",
        "2001:0:1::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1",
        "2001:db8::1",
    ],
)  # fmt: skip
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert refusal(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "64:ff9b::808:808"]
)
def test_a_public_address_passes(address: str) -> None:
    assert refusal(address) is None


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "::1", "fd12::1", "::ffff:10.1.2.3"])
def test_a_named_host_may_be_private(address: str) -> None:
    assert refusal(address, private_allowed=True) is None


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "::ffff:169.254.169.254", "fd00:ec2::254", "168.63.129.16", "::"]
)
def test_metadata_is_refused_even_to_a_named_host(address: str) -> None:
    guard = NetGuard(NetworkPolicy(("cam.test",)), resolve=lambda *_: ["8.8.8.8", address])
    with pytest.raises(AddressRefusedError):
        guard.check("http://cam.test/")


@pytest.mark.parametrize(
    ("entry", "url", "passes"),
    [
        ("cam.test", "http://cam.test/", True),
        ("CAM.test", "http://cam.TEST:8080/", True),
        ("cam.test", "http://other.test/", False),
        ("cam.test", "http://evil-cam.test/", False),
        ("*.cam.test", "http://a.b.cam.test/", True),
        ("*.cam.test", "http://cam.test/", False),
        ("*.cam.test", "http://evilcam.test/", False),
        ("cam.test:8080", "http://cam.test:8080/", True),
        ("cam.test:8080", "http://cam.test/", False),
        ("[fd12::1]:8080", "http://[fd12::1]:8080/", True),
        ("fd12::1", "http://[fd12::1]/", True),
    ],
)
def test_the_list_of_hosts(entry: str, url: str, passes: bool) -> None:  # noqa: FBT001
    guard = NetGuard(NetworkPolicy((entry,)), resolve=lambda *_: ["10.0.0.9"])
    if passes:
        assert guard.check(url).addresses == ("10.0.0.9",)
    else:
        with pytest.raises(AddressRefusedError):
            guard.check(url)


def test_one_bad_address_among_good_ones_refuses_the_host() -> None:
    guard = NetGuard(resolve=lambda *_: ["8.8.8.8", "2606:4700::1", "10.0.0.1"])
    with pytest.raises(AddressRefusedError):
        guard.check("http://example.org/")


def test_the_systems_own_names_are_refused() -> None:
    with pytest.raises(AddressRefusedError):
        NetGuard().fetch("http://localhost:1/")


def test_the_address_that_was_checked_is_the_one_connected_to() -> None:
    resolved: list[str] = []

    def rebinding(host: str, _port: int) -> list[str]:
        resolved.append(host)
        return ["127.0.0.1"] if len(resolved) == 1 else ["169.254.169.254"]

    with _server(_body(b"picture")) as (port, asked):
        guard = NetGuard(_LOCAL, _PATIENT, resolve=rebinding)
        assert guard.fetch(f"http://cam.test:{port}/a?b=1") == b"picture"
        with pytest.raises(AddressRefusedError):
            guard.fetch(f"http://cam.test:{port}/a?b=1")
    assert asked[0].startswith(b"GET /a?b=1 HTTP/1.1\r\n")
    assert f"Host: cam.test:{port}".encode() in asked[0]
    assert resolved == ["cam.test", "cam.test"]


def test_a_redirect_is_followed_and_checked() -> None:
    moved = _body(b"", "302 Found", "Location: /there")
    inside = _body(b"", "307 Temporary Redirect", "Location: http://169.254.169.254/latest")
    scheme = _body(b"", "301 Moved", "Location: file:///etc/passwd")
    guard = NetGuard(_LOCAL, _PATIENT)
    with _server(moved, _body(b"ok"), inside, scheme) as (port, asked):
        with guard.open(f"http://127.0.0.1:{port}/here") as response:
            assert (response.url, response.read()) == (f"http://127.0.0.1:{port}/there", b"ok")
        with pytest.raises(AddressRefusedError):
            guard.fetch(f"http://127.0.0.1:{port}/")
        with pytest.raises(UrlRefusedError):
            guard.fetch(f"http://127.0.0.1:{port}/")
    assert len(asked) == 4


def test_redirects_end() -> None:
    round_and_round = _body(b"", "302 Found", "Location: /again")
    with (
        _server(*[round_and_round] * 6) as (port, _),
        pytest.raises(RedirectsRefusedError),
    ):
        NetGuard(_LOCAL, _PATIENT).fetch(f"http://127.0.0.1:{port}/")


def _drip(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    for number in range(100):
        connection.sendall(b"X-Slow: %d\r\n" % number)
        time.sleep(0.1)


def _silence(connection: socket.socket) -> None:
    connection.settimeout(10)
    connection.recv(1)


def _endless(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(bytes(10_000))


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (_silence, FetchTimeoutError),
        (_drip, FetchTimeoutError),
        (_endless, FetchTooLargeError),
        (_body(bytes(200_000)), FetchTooLargeError),
        (_say(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort"), TruncatedError),
        (_say(b"-ERR unknown command 'GET'\r\n"), TruncatedError),
        (_body(b"", "404 Not Found"), UpstreamStatusError),
        (_body(b"", "304 Not Modified"), UpstreamStatusError),
    ],
)
def test_a_bad_server_costs_a_known_amount(answer: Answer, error: type[HeadraceError]) -> None:
    limits = _FAST if error is FetchTimeoutError else _PATIENT
    started = time.monotonic()
    with _server(answer) as (port, _), pytest.raises(error):
        NetGuard(_LOCAL, limits).fetch(f"http://127.0.0.1:{port}/")
    assert time.monotonic() - started < 8, "each of them would go on for ten seconds or longer"


def test_nobody_there() -> None:
    with pytest.raises(UnreachableError):
        NetGuard(_LOCAL, _PATIENT).fetch(f"http://127.0.0.1:{reserve_port()}/")


def test_a_name_that_does_not_resolve_or_not_in_time() -> None:
    never = threading.Event()

    def hangs(_host: str, _port: int) -> list[str]:
        never.wait(10)
        return ["8.8.8.8"]

    def unknown(_host: str, _port: int) -> list[str]:
        raise socket.gaierror(-2, "unknown")

    limits = FetchLimits(connect_seconds=0.2)
    with pytest.raises(UnreachableError):
        NetGuard(resolve=unknown).check("http://example.org/")
    with pytest.raises(FetchTimeoutError):
        NetGuard(limits=limits, resolve=hangs).check("http://example.org/")
    never.set()


def test_the_second_address_is_tried_when_the_first_is_dead() -> None:
    with _server(_body(b"ok")) as (port, _):
        guard = NetGuard(_LOCAL, _PATIENT, resolve=lambda *_: ["127.0.0.2", "127.0.0.1"])
        assert guard.fetch(f"http://cam.test:{port}/") == b"ok"


def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with _server(_body(b"straight")) as (port, _):
        assert NetGuard(_LOCAL, _PATIENT).fetch(f"http://127.0.0.1:{port}/") == b"straight"


def test_a_body_that_is_read_later_fails_with_the_same_errors() -> None:
    cut = _say(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort")
    with _server(cut) as (port, _), ExitStack() as stack:
        guard = NetGuard(_LOCAL, _PATIENT)
        response = stack.enter_context(guard.open(f"http://127.0.0.1:{port}/"))
        chunks = iter(response)
        assert next(chunks) == b"short"
        with pytest.raises(TruncatedError):
            next(chunks)


@given(
    st.text(max_size=60),
    st.sampled_from(["", "http://", "https://", "http://a@", "http://[", "\\"]),
)
def test_no_text_makes_the_parser_fail_in_another_way(text: str, start: str) -> None:
    try:
        scheme, host, port, path = split_url(start + text)
    except UrlRefusedError:
        return
    assert scheme in {"http", "https"}
    assert host
    assert host.isascii()
    assert 0 < port < 65_536
    assert path.startswith("/")
