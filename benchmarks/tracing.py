"""What tracing costs, off and on, beside the same without any tracer, in one run.

A request goes through an app of ours, and a message through our broker's middleware, in memory:
neither network nor database hides what is added. Each way runs in processes of its own, in turns;
the quickest of each counts. On, every span goes by OTLP to a collector that drops it. Exits 1 if
either costs more than MOST_OFF times as much with tracing off as without a tracer.

    python benchmarks/tracing.py [--rounds 7]
"""

import argparse
import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import dramatiq
from dramatiq.brokers.stub import StubBroker
from fastapi import FastAPI

from headrace_common.broker import MessageContext, new_message, send
from headrace_common.contracts.lanes import Lane
from headrace_common.contracts.messages import DispatchJob, dispatch_actor
from headrace_common.settings import ProcessSettings
from headrace_common.telemetry import configure_logging, configure_tracing
from headrace_common.web import create_app

MOST_OFF = 1.25
REQUESTS = 2_000
MESSAGES = 4_000
WAYS = ("none", "off", "on")


class Collector(BaseHTTPRequestHandler):
    """Takes what it gets and says yes."""

    def do_POST(self) -> None:
        """Drop an export."""
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


def main() -> None:
    """Measure, print, and compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.way:
        measure(asked.way)
        return
    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    best = quickest(asked.rounds, f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    print(f"{'':10}{'request':>12}{'':8}{'message':>12}")
    for way in WAYS:
        told = (f"{best[way][n]:9.1f} us{best[way][n] / best['none'][n]:7.2f}x" for n in (0, 1))
        print(f"{way:10}{'  '.join(told)}")
    worst = max(best["off"][n] / best["none"][n] for n in (0, 1))
    print(f"off costs {worst:.2f} times as much as none; at most {MOST_OFF}")
    sys.exit(worst > MOST_OFF)


def quickest(rounds: int, collector: str) -> dict[str, tuple[float, float]]:
    """Return microseconds of a request and of a message, by way."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    best = dict.fromkeys(WAYS, (float("inf"), float("inf")))
    for _ in range(rounds):
        for way in WAYS:
            done = subprocess.run(
                [sys.executable, __file__, "--way", way],
                env=clean | ({"OTEL_EXPORTER_OTLP_ENDPOINT": collector} if way == "on" else {}),
                capture_output=True,
                text=True,
                check=True,
            )
            request, message = map(float, done.stderr.split())
            best[way] = (min(best[way][0], request), min(best[way][1], message))
    return best


def measure(way: str) -> None:
    """Print microseconds of a request and of a message, of processor time."""
    configure_logging(service="benchmark", log_format="json")
    if way != "none":
        configure_tracing(service="benchmark")
    app = create_app(ProcessSettings(), service="benchmark", description="")

    @app.get("/nothing/{number}")
    async def nothing(number: int) -> int:
        return number

    # The log is written as ever, and has the other stream.
    print(asyncio.run(requests(app)), timed(message_maker(), MESSAGES), file=sys.stderr)


async def requests(app: FastAPI) -> float:
    """Return microseconds of a request."""

    async def one(number: int) -> None:
        path = f"/nothing/{number}"
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"h")],
            "server": ("h", 80),
            "client": ("c", 1),
        }
        await app(scope, receive, drop)

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def drop(_: object) -> None:
        return None

    for number in range(200):
        await one(number)
    started = time.process_time()
    for number in range(REQUESTS):
        await one(number)
    return (time.process_time() - started) / REQUESTS * 1e6


def message_maker() -> Callable[[int], None]:
    """Return what sends a message and works on it."""
    context = MessageContext()
    broker = StubBroker(middleware=[])
    dramatiq.set_broker(broker)

    def one(number: int) -> None:
        lane = Lane.NORMAL
        payload = DispatchJob(job_id=f"job-{number}")
        message = new_message(dispatch_actor(lane), lane.queue_name, payload)
        send(broker, message)
        proxy = dramatiq.broker.MessageProxy(message)
        context.before_process_message(broker, proxy)
        context.after_process_message(broker, proxy)

    return one


def timed(do: Callable[[int], None], times: int) -> float:
    """Return microseconds of one call."""
    for number in range(200):
        do(number)
    started = time.process_time()
    for number in range(times):
        do(number)
    return (time.process_time() - started) / times * 1e6


if __name__ == "__main__":
    main()
