"""Runs Swift's four servers in one process; executed by the Python that has Swift.

A cluster runs each in processes of its own on machines of its own. Here they are four listening
sockets in one eventlet loop, as in Swift's own tests: a quarter of the memory, and one process
to supervise. Everything else is Swift as it is: rings, hashed paths, extended attributes, SQLite
files of containers.

Three things are ours, named as `__main__` in the configuration: a cache in memory instead of
memcached, a guard that keeps everybody but the proxy from the storage servers, which know no
users, and logging to this process's output.

It stands on names inside Swift; the version is pinned in `tools`.
"""

import argparse
import array
import copy
import errno
import hmac
import importlib
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

_App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

#: The same for ever: an object's place on the disk depends on it.
_PART_POWER = 4
_DEVICE = "d1"
_KEY_HEADER = "X-Backend-Headrace-Key"
#: Seconds for requests under way when the process has to stop.
_STOP_GRACE_SECONDS = 3
#: As Swift's defaults.
_MAX_CLIENTS = 1024
_CLIENT_TIMEOUT_SECONDS = 60.0
_STORAGE = ("account", "container", "object")


class Cache:
    """What Swift and Keystone's middleware expect of a memcache client, for one process.

    What they say besides is about servers and encodings.
    """

    #: Entries; when there are more, the oldest go.
    LIMIT = 10_000

    def __init__(self) -> None:
        """Make an empty one."""
        self._entries: dict[str, tuple[Any, float]] = {}

    def get(self, key: str, **_options: Any) -> Any:
        """Return a value, or None if there is none or its time is over."""
        value, until = self._entries.get(key, (None, 0.0))
        if until and until < time.monotonic():
            self._entries.pop(key, None)
            return None
        return copy.deepcopy(value)  # a server would give everybody a value of his own

    def set(self, key: str, value: Any, *_: Any, time: float = 0, **_options: Any) -> None:
        """Keep a value, for `time` seconds unless that is 0."""
        self._entries.pop(key, None)
        self._entries[key] = (value, _deadline(time))
        while len(self._entries) > self.LIMIT:
            del self._entries[next(iter(self._entries))]

    def incr(self, key: str, delta: int = 1, time: float = 0) -> int:
        """Count up, from 0 where there is nothing."""
        value = max(0, int(self.get(key) or 0) + int(delta))
        self.set(key, value, time=time)
        return value

    def decr(self, key: str, delta: int = 1, time: float = 0) -> int:
        """Count down, to 0 at least."""
        return self.incr(key, -int(delta), time)

    def delete(self, key: str, *_: Any) -> None:
        """Forget a value."""
        self._entries.pop(key, None)

    def set_multi(self, mapping: dict[str, Any], *_: Any, time: float = 0, **_options: Any) -> None:
        """Keep several values."""
        for key, value in mapping.items():
            self.set(key, value, time=time)

    def get_multi(self, keys: Iterable[str], *_: Any) -> list[Any]:
        """Return several values."""
        return [self.get(key) for key in keys]


def _deadline(seconds: float) -> float:
    return time.monotonic() + seconds if seconds else 0.0


def cache_factory(_global_conf: dict[str, str], **_conf: str) -> Callable[[_App], _App]:
    """Return the filter that gives each request the cache."""
    cache = Cache()

    def make(app: _App) -> _App:
        def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            environ["swift.cache"] = cache
            return app(environ, start_response)

        return serve

    return make


def guard_factory(
    _global_conf: dict[str, str], *, storage_key: str, **_conf: str
) -> Callable[[_App], _App]:
    """Return the filter that wants to see the key."""
    header = "HTTP_" + _KEY_HEADER.upper().replace("-", "_")

    def make(app: _App) -> _App:
        def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            if hmac.compare_digest(environ.get(header, "").encode(), storage_key.encode()):
                return app(environ, start_response)
            start_response("403 Forbidden", [("Content-Length", "0")])
            return [b""]

        return serve

    return make


def show_key(storage_key: str) -> None:
    """Send the key with every request to a storage server."""
    connection: Any = importlib.import_module("swift.common.bufferedhttp").BufferedHTTPConnection
    end_headers = connection.endheaders

    def end_headers_with_key(self: Any, *arguments: Any, **options: Any) -> Any:
        self.putheader(_KEY_HEADER, storage_key)
        return end_headers(self, *arguments, **options)

    connection.endheaders = end_headers_with_key


def log_to_stderr(
    _conf: Any, _name: str, _console: Any, _route: str, _fmt: str, logger: Any, _adapted: Any
) -> None:
    """Log to this process's output; Swift by itself would send to a syslog on UDP."""
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(server)s: %(message)s"))
    logger.addHandler(handler)


def write_rings(directory: Path, ports: dict[str, int]) -> None:
    """Write where accounts, containers and objects are: all on one device, at today's ports."""
    ring_data = importlib.import_module("swift.common.ring").RingData
    for part in _STORAGE:
        address = {"ip": "127.0.0.1", "port": ports[part]}
        address |= {f"replication_{name}": value for name, value in address.items()}
        device = {"id": 0, "region": 1, "zone": 1, "weight": 1.0, "device": _DEVICE, "meta": ""}
        table = array.array("H", [0] * 2**_PART_POWER)
        ring = ring_data([table], [{**device, **address}], 32 - _PART_POWER)
        ring.save(str(directory / f"{part}.ring.gz"))


def serve(directory: Path, ports: dict[str, int]) -> None:
    """Serve until SIGTERM."""
    utils = importlib.import_module("swift.common.utils")
    eventlet = importlib.import_module("eventlet")
    eventlet.hubs.use_hub(utils.get_hub())
    utils.monkey_patch()
    (directory / "devices" / _DEVICE).mkdir(parents=True, exist_ok=True)
    utils.set_swift_dir(str(directory))
    write_rings(directory, ports)
    os.environ["TZ"] = "UTC+0"
    time.tzset()
    for part in _STORAGE:
        start_server(directory / f"{part}-server.conf")
    listener, proxy = start_server(directory / "proxy-server.conf")
    _wait_for_stop()
    listener.shutdown(socket.SHUT_RDWR)  # the server ends when its connections have
    with eventlet.Timeout(_STOP_GRACE_SECONDS, exception=False):
        proxy.wait()


def start_server(path: Path) -> tuple[Any, Any]:
    """Start the server that a file describes.

    It does what Swift's `run_server` does, which cannot run twice in a process: it changes the
    loop that it runs in.

    Returns:
        Its listening socket, and its green thread.
    """
    wsgi = importlib.import_module("swift.common.wsgi")
    name = path.stem
    conf, _, _ = wsgi._initrp(str(path), name)  # noqa: SLF001
    if name == "proxy-server":
        show_key(conf["storage_key"])
    app = wsgi.loadapp(str(path), global_conf={"log_name": name})
    listener = wsgi.get_socket(conf)
    return listener, importlib.import_module("eventlet").spawn(_answer, listener, app, wsgi)


def _answer(listener: Any, app: _App, wsgi: Any) -> None:
    """Answer requests until the listening socket is shut down, and those begun to the end."""
    pool = wsgi.RestrictedGreenPool(size=_MAX_CLIENTS)
    try:
        importlib.import_module("eventlet.wsgi").server(
            listener,
            app,
            wsgi.NullLogger(),
            custom_pool=pool,
            protocol=wsgi.SwiftHttpProtocol,
            socket_timeout=_CLIENT_TIMEOUT_SECONDS,
            capitalize_response_headers=False,
            url_length_limit=wsgi.constraints.MAX_REQUEST_LINE,
        )
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    pool.waitall()


def _wait_for_stop() -> None:
    """Let the loop run until SIGTERM, which wakes it through a socket."""
    green_socket = importlib.import_module("eventlet.green.socket")
    reader, writer = green_socket.socketpair()
    writer.setblocking(False)  # noqa: FBT003
    signal.set_wakeup_fd(writer.fileno())
    signal.signal(signal.SIGTERM, lambda *_: None)
    reader.recv(1)


def main() -> None:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, required=True)
    directory = parser.parse_args().directory
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    # Says of each of Swift's settings that it is none of its own.
    logging.getLogger("keystonemiddleware._common.config").setLevel(logging.ERROR)
    serve(directory, json.loads((directory / "ports.json").read_text()))


if __name__ == "__main__":
    main()
