"""Serves HLS on loopback: as it lies in a directory (VOD), live in a loop, or with faults."""

import threading
import time
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

_TYPES: Final = {
    ".m3u8": "application/vnd.apple.mpegurl",
    ".ts": "video/mp2t",
    ".m4s": "video/iso.segment",
    ".mp4": "video/mp4",
}
#: Segments that a live playlist lists at a time.
_WINDOW: Final = 5
#: Headers of segments; the muxer writes them just before the URI.
_SEGMENT_TAGS: Final = ("#EXTINF", "#EXT-X-BYTERANGE")

Route = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Answers GET from the server's routes."""

    protocol_version = "HTTP/1.1"
    server: "HlsServer"

    def do_GET(self) -> None:
        """Answer from the route of the path; 404 without one."""
        path = urlsplit(self.path).path
        self.server.asked.append(path)
        route = self.server.route(path)
        try:
            if route is None:
                self.reply(b"not found", status=404)
            else:
                route(self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the reader has enough

    def reply(
        self, body: bytes, *, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        """Send a whole answer, or the range of it that was asked for."""
        headers = dict(headers or {})
        asked = self.headers.get("Range", "")
        if status == 200 and asked.startswith("bytes="):
            first, _, last = asked.removeprefix("bytes=").partition("-")
            headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
            body, status = body[int(first) : int(last) + 1], 206
        self.send_response(status)
        kind = _TYPES.get(Path(urlsplit(self.path).path).suffix, "application/octet-stream")
        self.send_header("Content-Type", kind)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Stay silent: `asked` has the requests."""


class HlsServer(ThreadingHTTPServer):
    """An HTTP server with programmable routes; a context manager that serves on a thread."""

    daemon_threads = True

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Bind; serving starts with the context.

        Args:
            host: loopback, unless others are to see the stream.
            port: 0 takes any that is free.
        """
        super().__init__((host, port), Handler)
        self.asked: list[str] = []
        self._routes: dict[str, Route] = {}
        self._directories: dict[str, Path] = {}
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def url(self) -> str:
        """Where it is, without a slash at the end."""
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, _request: object, _client_address: object) -> None:
        """Leave a broken connection be: readers hang up when they have enough."""

    def add(self, path: str, route: Route | bytes) -> str:
        """Answer a path by a function or with bytes; return its URL."""
        self._routes[path] = (
            partial(Handler.reply, body=route) if isinstance(route, bytes) else route
        )
        return self.url + path

    def add_vod(self, prefix: str, playlist: Path) -> str:
        """Serve the directory of a playlist below a prefix; return the playlist's URL."""
        self._directories[prefix] = playlist.parent
        return f"{self.url}{prefix}/{playlist.name}"

    def add_live(self, prefix: str, playlist: Path) -> str:
        """Serve it live from now on, in an endless loop; return the playlist's URL."""
        self._directories[prefix] = playlist.parent
        live = LiveLoop(playlist.read_text(encoding="utf-8"), time.monotonic())

        def answer(handler: Handler) -> None:
            handler.reply(live.playlist(time.monotonic()).encode())

        return self.add(f"{prefix}/live.m3u8", answer)

    def route(self, path: str) -> Route | None:
        """Return what answers a path: a route of its own, or a file below a prefix."""
        if path in self._routes:
            return self._routes[path]
        prefix, _, name = path.rpartition("/")
        file = self._directories.get(prefix, Path("/nonexistent")) / name
        if name.startswith(".") or not file.is_file():
            return None
        return partial(Handler.reply, body=file.read_bytes())


class LiveLoop:
    """A live playlist made from a VOD one: a window that moves with the clock, for ever."""

    def __init__(self, vod: str, started: float) -> None:
        """Read the segments of a VOD playlist; the first becomes available at `started`."""
        self._head: list[str] = []
        self._segments: list[tuple[float, list[str]]] = []
        tags: list[str] = []
        for line in vod.splitlines():
            if line.startswith(_SEGMENT_TAGS):
                tags.append(line)
            elif line and not line.startswith("#"):
                seconds = float(tags[0].removeprefix("#EXTINF:").split(",")[0])
                self._segments.append((seconds, [*tags, line]))
                tags = []
            elif line.startswith(("#EXT-X-MAP", "#EXT-X-KEY", "#EXT-X-VERSION", "#EXT-X-TARGET")):
                self._head.append(line)
        self._started = started

    def playlist(self, now: float) -> str:
        """Return the playlist at a time: the segments that are complete by then."""
        ready = self._ready(now)
        first = max(0, ready - _WINDOW)
        count = len(self._segments)
        lines = ["#EXTM3U", *self._head, f"#EXT-X-MEDIA-SEQUENCE:{first}"]
        lines.append(f"#EXT-X-DISCONTINUITY-SEQUENCE:{max(0, first - 1) // count}")
        for sequence in range(first, ready):
            if sequence and sequence % count == 0:
                lines.append("#EXT-X-DISCONTINUITY")
            lines += self._segments[sequence % count][1]
        return "\n".join(lines) + "\n"

    def _ready(self, now: float) -> int:
        """Count the complete segments; at the start a whole window is there."""
        once = sum(seconds for seconds, _ in self._segments)
        rounds, rest = divmod(max(0.0, now - self._started), once)
        done = 0
        for seconds, _ in self._segments:
            if rest < seconds:
                break
            rest -= seconds
            done += 1
        return int(rounds) * len(self._segments) + done + _WINDOW
