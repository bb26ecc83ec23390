"""Every way in which a proxy misbehaves, with real servers behind it."""

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
import redis
from headrace_chaos.http_requests import End, Head, NotHttpError, Piece, RequestReader
from headrace_chaos.modes import Blackhole, Cut, HttpErrors, Reset, Slow
from headrace_chaos.proxy import Proxy, ProxyHost
from redis.backoff import NoBackoff
from redis.retry import Retry

from headrace_common.settings import SqsSettings
from headrace_common.sqs import sqs_client
from headrace_local.clients import local_s3_client
from headrace_local.ports import choose_ports
from headrace_local.pytest_plugin import LocalServers
from headrace_local.waiting import wait_until

#: Long enough for an answer, however busy the machine is.
_SECONDS = 60.0


@pytest.fixture
def host() -> Iterator[ProxyHost]:
    before = threading.active_count()
    with ProxyHost() as running:
        yield running
        for proxy in running.proxies.values():
            proxy.heal()
    assert [proxy.open_links for proxy in running.proxies.values()] == [0] * len(running.proxies)
    # Servers behind it notice a moment later that nobody is there any more.
    wait_until(lambda: threading.active_count() <= before)


@pytest.fixture
def port(tmp_path: Path) -> int:
    return choose_ports({"proxy": ()}, previous={}, directory=tmp_path)["proxy"]


@pytest.fixture
def valkey(host: ProxyHost, port: int, local_servers: LocalServers) -> Proxy:
    return host.add("valkey", port, urlsplit(local_servers.redis_url).port or 0)


def _client(proxy: Proxy, servers: LocalServers, *, timeout: float = _SECONDS) -> "redis.Redis":
    return redis.Redis(
        host="127.0.0.1",
        port=proxy.port,
        password=servers.redis_password,
        socket_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
    )


class _Echo(BaseHTTPRequestHandler):
    """Counts what it was asked, and says how many bytes came."""

    protocol_version = "HTTP/1.1"
    seen: list[int] = []

    def do_POST(self) -> None:
        if self.headers.get("transfer-encoding") == "chunked":
            size = 0
            while length := int(self.rfile.readline(), 16):
                size += len(self.rfile.read(length))
                self.rfile.readline()
            self.rfile.readline()
        else:
            size = len(self.rfile.read(int(self.headers["content-length"])))
        self.seen.append(size)
        body = str(size).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: object = None, size: object = None) -> None:
        return


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        assert isinstance(sys.exception(), ConnectionError)


@pytest.fixture
def echo_port() -> Iterator[int]:
    _Echo.seen = []
    with _Server(("127.0.0.1", 0), _Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture
def web(host: ProxyHost, port: int, echo_port: int) -> Proxy:
    return host.add("web", port, echo_port)


def _url(proxy: Proxy) -> str:
    return f"http://127.0.0.1:{proxy.port}/"


def _post(proxy: Proxy) -> httpx.Response:
    return httpx.post(_url(proxy), content=b"abc", timeout=_SECONDS)


def test_what_goes_through_is_as_it_was(valkey: Proxy, local_servers: LocalServers) -> None:
    with closing(_client(valkey, local_servers)) as client:
        value = bytes(range(256)) * 20_000
        client.set("chaos:through", value, ex=60)
        assert client.get("chaos:through") == value
    wait_until(lambda: valkey.open_links == 0)


def test_postgres_s3_and_sqs_work_through_proxies(
    host: ProxyHost, tmp_path: Path, local_servers: LocalServers
) -> None:
    ports = choose_ports(
        dict.fromkeys(("postgres", "s3", "sqs"), ()), previous={}, directory=tmp_path
    )
    env = local_servers.env("postgres", "s3", "sqs")
    behind = {
        "postgres": env["DATABASE_URL"],
        "s3": env["S3_ENDPOINT_URL"],
        "sqs": env["SQS_ENDPOINT_URL"],
    }
    proxies = {
        name: host.add(name, ports[name], urlsplit(url).port or 0) for name, url in behind.items()
    }
    database = urlsplit(env["DATABASE_URL"])
    netloc = f"{database.username}:{database.password}@127.0.0.1:{ports['postgres']}"
    with psycopg.connect(database._replace(netloc=netloc).geturl()) as connection:
        assert connection.execute("SELECT 42").fetchone() == (42,)

    keys = {
        name: local_servers.aws_credentials[name]
        for name in ("aws_access_key_id", "aws_secret_access_key")
    }
    s3 = local_s3_client(_url(proxies["s3"]), **keys)
    body = bytes(300_000)
    s3.put_object(Bucket=env["S3_BUCKET"], Key="chaos/proxy", Body=body)
    assert s3.get_object(Bucket=env["S3_BUCKET"], Key="chaos/proxy")["Body"].read() == body
    s3.delete_object(Bucket=env["S3_BUCKET"], Key="chaos/proxy")

    # boto3 goes where the endpoint says, whatever address the queue's URL has.
    settings = SqsSettings.model_validate(
        {
            "sqs_endpoint_url": _url(proxies["sqs"]),
            "aws_access_key_id": keys["aws_access_key_id"],
            "aws_secret_access_key": keys["aws_secret_access_key"],
        }
    )
    sqs_client(settings).get_queue_attributes(QueueUrl=env["SQS_RESULT_QUEUE_URL"])
    assert proxies["sqs"].traffic.connections == 1


def test_cut_resets_and_refuses_until_it_is_healed(
    valkey: Proxy, local_servers: LocalServers
) -> None:
    with closing(_client(valkey, local_servers)) as client:
        client.ping()
        valkey.set(Cut())
        with pytest.raises(redis.ConnectionError, match="refused"):
            client.get("chaos:none")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", valkey.port), timeout=1)
        valkey.heal()
        assert client.ping()


def test_a_blackhole_is_silent_and_what_was_sent_arrives_later(
    valkey: Proxy, local_servers: LocalServers
) -> None:
    with closing(_client(valkey, local_servers, timeout=1.5)) as client:
        client.ping()
        valkey.set(Blackhole())
        with pytest.raises(redis.TimeoutError):
            client.ping()
        waiting = _client(valkey, local_servers)
        answers: list[object] = []
        thread = threading.Thread(target=lambda: answers.append(waiting.ping()))
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
        valkey.heal()
        thread.join(_SECONDS)
        assert answers == [True]
        waiting.close()


def test_slow_delays_every_answer_and_keeps_the_order(
    valkey: Proxy, local_servers: LocalServers
) -> None:
    with closing(_client(valkey, local_servers)) as client:
        client.set("chaos:slow", bytes(100_000), ex=60)
        valkey.set(Slow(delay_seconds=0.05, bytes_per_second=500_000))
        began = time.monotonic()
        assert client.get("chaos:slow") == bytes(100_000)
        assert time.monotonic() - began > 0.25
        valkey.heal()
        # On a busy machine any one of them may be held up.
        wait_until(lambda: _seconds_of(lambda: client.get("chaos:slow")) < 0.25)


def _seconds_of(call: Callable[[], object]) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


def test_reset_ends_every_connection_soon(valkey: Proxy, local_servers: LocalServers) -> None:
    valkey.set(Reset(within_seconds=0.05))
    with closing(_client(valkey, local_servers)) as client:

        def until_reset() -> None:
            for _ in range(100_000):
                client.ping()

        with pytest.raises((redis.ConnectionError, ConnectionError)):
            until_reset()


def test_the_next_server_takes_over_for_one_that_is_gone(
    host: ProxyHost, port: int, echo_port: int
) -> None:
    proxy = host.add("web", port, 1, echo_port)
    for _ in range(3):
        assert _post(proxy).text == "3"
    proxy.lead_to(1)
    with pytest.raises(httpx.TransportError):
        _post(proxy)


def test_without_a_server_a_connection_is_reset(host: ProxyHost, port: int) -> None:
    proxy = host.add("web", port)
    # When it is seen depends on who is quicker. A time-out would be another error.
    with pytest.raises((httpx.NetworkError, httpx.RemoteProtocolError)):
        _post(proxy)


def test_a_connection_tries_no_other_server_where_it_is_not_to(
    host: ProxyHost, port: int, echo_port: int
) -> None:
    proxy = host.add("web", port, 1, echo_port, fails_over=False)
    outcomes = []
    for _ in range(4):
        try:
            outcomes.append(_post(proxy).text)
        except httpx.TransportError:
            outcomes.append("reset")
    assert outcomes in (["reset", "3"] * 2, ["3", "reset"] * 2)


def test_failed_requests_do_not_reach_the_server(web: Proxy) -> None:
    with httpx.Client(timeout=_SECONDS) as client:
        assert client.post(_url(web), content=b"x").status_code == 200
        web.set(HttpErrors(rate=1, status=503, retry_after=3))
        # The connection of before is reset: whoever keeps it alive has to notice.
        answers = []
        for body in (b"abc", iter([b"ab", b"cd"])):
            try:
                answers.append(client.post(_url(web), content=body))
            except httpx.TransportError:
                answers.append(client.post(_url(web), content=b"abc"))
        assert {(answer.status_code, answer.headers["retry-after"]) for answer in answers} == {
            (503, "3")
        }
        assert _Echo.seen == [1]
        web.heal()
        assert client.post(_url(web), content=iter([b"ab", b"cd"])).text == "4"


def test_a_share_fails_and_the_others_are_untouched(web: Proxy) -> None:
    web.set(HttpErrors(rate=0.5, status=500))
    statuses = []
    with httpx.Client(timeout=_SECONDS) as client:
        for number in range(60):
            body = bytes(number * 100)
            answer = client.post(_url(web), content=iter([body, body]))
            statuses.append(answer.status_code)
            assert answer.status_code == 500 or answer.text == str(2 * len(body))
    assert 10 < statuses.count(500) < 50
    assert web.traffic.failed == statuses.count(500)
    assert len(_Echo.seen) == statuses.count(200)


def test_a_request_may_be_done_and_its_answer_lost(web: Proxy) -> None:
    web.set(HttpErrors(rate=1, status=500, done_share=1))
    assert _post(web).status_code == 500
    assert _Echo.seen == [3]
    assert web.traffic.unanswered == 1


def test_requests_are_cut_apart_at_any_place() -> None:
    first = b"PUT /a HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello"
    second = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n"
    third = b"GET / HTTP/1.1\r\n\r\n"
    whole = first + second + third
    for step in (1, 2, 7, len(whole)):
        reader = RequestReader()
        events = [
            event
            for start in range(0, len(whole), step)
            for event in reader.feed(whole[start : start + step])
        ]
        assert sum(isinstance(event, End) for event in events) == 3
        assert [event.waits for event in events if isinstance(event, Head)] == [True, False, False]
        raw = b"".join(event.raw for event in events if isinstance(event, Head | Piece))
        assert raw == whole


def test_what_is_no_http_goes_through(host: ProxyHost, port: int) -> None:
    with pytest.raises(NotHttpError):
        list(RequestReader().feed(b"\x00\x01 what is this\r\n\r\n"))
