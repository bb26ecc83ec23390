"""Every hostile stream that is known, served and read: its error code and how long it took.

A good clip is read at the same time in the same process, for each of them. Exits 1 if a case ends
with another code, takes longer than it may, or hurts that neighbour.

    python benchmarks/hostile_streams.py
"""

import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from headrace_common.errors import HeadraceError
from headrace_common.netguard import FetchLimits, NetGuard, NetworkPolicy
from headrace_gpu_preprocessor.simulate import Handler, HlsFormat, HlsServer, Scene, write_hls
from headrace_gpu_preprocessor.simulate.faults import endless, stall
from headrace_gpu_preprocessor.simulate.server import Route
from headrace_gpu_preprocessor.video import ClipReader, ReadLimits
from headrace_gpu_preprocessor.video.sniff import Kind

SECONDS = 4.0
SILENCE_SECONDS = 1.0
#: Start of the decoder and reading on a busy machine, beside what a case needs by itself.
SLACK_SECONDS = 6.0
GUARD_LIMITS = FetchLimits(connect_seconds=1, silence_seconds=SILENCE_SECONDS, total_seconds=5)
LIMITS = ReadLimits(segment_bytes=3_000_000, file_bytes=3_000_000, frozen_seconds=1, samples=20)
METADATA = "http://169.254.169.254/latest/meta-data"
NULL_PACKETS = (b"\x47\x1f\xff\x10" + b"\xff" * 184) * 500


@dataclass(frozen=True)
class Case:
    """One stream.

    Attributes:
        name: what is wrong with it.
        url: where it is.
        code: that it must end with.
        seconds: that it may take by itself.
        limits: of the clip.
        kind: asked for.
        guard: another than the usual.
    """

    name: str
    url: str
    code: str
    seconds: float = 0.0
    limits: ReadLimits = field(default=LIMITS)
    kind: Kind = "hls"
    guard: NetGuard | None = None


def truncated(body: bytes) -> Route:
    """Promise the whole, send half."""

    def route(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: len(body) // 2])
        handler.close_connection = True

    return route


def moved(place: str) -> Route:
    """Redirect."""
    return lambda handler: handler.reply(b"", status=302, headers={"Location": place})


def status(number: int) -> Route:
    """Answer with a status."""
    return lambda handler: handler.reply(b"", status=number)


class Streams:
    """Real streams, and what is made from them."""

    def __init__(self, server: HlsServer, root: Path) -> None:
        """Encode the good stream, plain and encrypted."""
        self.server = server
        self.root = root
        self.scene = Scene("light", 320, 180, seconds=8, rate=12)
        self.good = server.add_vod("/good", self._encode("good", HlsFormat(segment_seconds=1)))
        self._encode("aes", HlsFormat(segment_seconds=1, key=bytes(range(16))))
        self.segment = (root / "good" / "segment00000.ts").read_bytes()
        self._number = 0

    def _encode(self, name: str, form: HlsFormat) -> Path:
        (self.root / name).mkdir()
        return write_hls(self.scene.frames(), self.scene.rate, self.root / name, form)

    def at(self, route: Route | bytes, extension: str = "m3u8") -> str:
        """Serve something at a new URL."""
        self._number += 1
        return self.server.add(f"/{self._number}.{extension}", route)

    def one(self, uri: str, *tags: str, ended: bool = True) -> str:
        """Serve a playlist of one segment."""
        end = ["#EXT-X-ENDLIST"] if ended else []
        lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:4", *tags, "#EXTINF:4,", uri, *end, ""]
        return self.at("\n".join(lines).encode())

    def master(self, uri: str) -> str:
        """Serve a master playlist of one variant."""
        return self.at(f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{uri}\n".encode())

    def spoilt(self, kind: str, name: str, route: Route | bytes, number: int = 8) -> str:
        """Serve a copy of a stream with its first segments (or its key) replaced."""
        self._number += 1
        prefix = f"/copy{self._number}"
        url = self.server.add_vod(prefix, self.root / kind / "index.m3u8")
        for place in range(number):
            self.server.add(f"{prefix}/{name.format(place)}", route)
        return url

    def large(self, width: int, height: int) -> str:
        """Serve a stream of frames of a size."""
        directory = self.root / f"large{width}"
        directory.mkdir()
        frames = [np.zeros((height, width, 3), np.uint8)] * 2
        return self.server.add_vod(f"/large{width}", write_hls(frames, 10, directory))


def cases(streams: Streams) -> Iterator[Case]:
    """Yield every case."""
    yield from broken(streams)
    yield from too_much(streams)
    yield from roads_inside(streams)
    yield from files(streams)


def broken(streams: Streams) -> Iterator[Case]:
    """Yield what is missing, late, cut, frozen or something else."""
    at, one = streams.at, streams.one
    segments = "segment{:05}.ts"
    yield Case("playlist 404", streams.server.url + "/none.m3u8", "stream_not_found")
    yield Case("playlist 503", at(status(503)), "stream_unavailable")
    yield Case("nobody listens", "http://127.0.0.1:9/a.m3u8", "stream_unavailable")
    yield Case("playlist stalled", at(stall), "stream_stalled", SILENCE_SECONDS)
    yield Case("playlist truncated", at(truncated(b"#EXTM3U\n" * 99)), "stream_truncated")
    yield Case("playlist is a page", at(b"<html>camera is off</html>"), "not_hls")
    yield Case("playlist is a JPEG", at(b"\xff\xd8\xff\xe0 picture"), "not_hls")
    yield Case("playlist without segments", at(b"#EXTM3U\n#EXT-X-ENDLIST\n"), "bad_playlist")
    missing = streams.spoilt("good", segments, status(404))
    yield Case("segments 404", missing, "stream_not_found")
    silent = streams.spoilt("good", segments, stall)
    yield Case("segments stalled", silent, "stream_stalled", 3 * SILENCE_SECONDS)
    cut = streams.spoilt("good", segments, truncated(streams.segment))
    yield Case("segments truncated", cut, "stream_truncated")
    yield Case("segments are pictures", one(at(b"GIF89a" + bytes(5000), "ts")), "not_video")
    yield Case("segments are noise", one(at(bytes(range(256)) * 200, "ts")), "not_video")
    frozen = one(at(streams.segment, "ts"), ended=False)
    yield Case("live playlist frozen", frozen, "stream_frozen", 3 * 4 + 4)
    wrong = streams.spoilt("aes", "stream.key", bytes(16), 1)
    yield Case("wrong key", wrong, "bad_key")
    yield Case("short key", streams.spoilt("aes", "stream.key", b"short", 1), "bad_key")
    sample = one("a.ts", '#EXT-X-KEY:METHOD=SAMPLE-AES,URI="k"')
    yield Case("other encryption", sample, "unsupported_encryption")
    yield Case("too short", one(at(streams.segment, "ts")), "clip_too_short")
    sound = b'#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS="mp4a.40.2"\na.m3u8\n'
    yield Case("sound only", at(sound), "bad_playlist")


def too_much(streams: Streams) -> Iterator[Case]:
    """Yield what never ends, or is too large."""
    at, one = streams.at, streams.one
    yield Case("playlist endless", at(endless(b"#EXTM3U\n", b"#\n" * 50_000)), "playlist_too_large")
    null = at(endless(streams.segment, NULL_PACKETS), "ts")
    yield Case("segment endless", one(null), "stream_too_large")
    yield Case("segment of zeros endless", one(at(endless(b"", bytes(99_999)), "ts")), "not_video")
    yield Case("frames of 8192 x 4320", streams.large(8192, 4320), "frame_too_large")
    little = ReadLimits(memory_bytes=40 * 1024 * 1024)
    yield Case("too much memory", streams.large(3840, 2160), "video_memory_limit", limits=little)
    few, small = ReadLimits(frames_per_second=1), ReadLimits(total_bytes=20_000)
    yield Case("too many frames", streams.good, "too_many_frames", limits=few)
    yield Case("too many bytes", streams.good, "stream_too_large", limits=small)
    live = streams.server.add_live("/live", streams.root / "good" / "index.m3u8")
    wall = ReadLimits(wall_seconds=2)
    yield Case("slower than its time", live, "video_time_limit", 2, limits=wall)
    round_about = f"{streams.server.url}/round.m3u8"
    streams.server.add("/round.m3u8", moved("/round.m3u8"))
    yield Case("redirects in a circle", round_about, "too_many_redirects")
    streams.server.add("/self.m3u8", b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nself.m3u8\n")
    yield Case("master that lists itself", f"{streams.server.url}/self.m3u8", "bad_playlist")
    streams.server.add("/me.m3u8", b"#EXTM3U\n#EXTINF:4,\nme.m3u8\n#EXT-X-ENDLIST\n")
    yield Case("playlist that lists itself", f"{streams.server.url}/me.m3u8", "not_video")


def roads_inside(streams: Streams) -> Iterator[Case]:
    """Yield attempts to have this side fetch what only it can reach."""
    at, one = streams.at, streams.one
    there = at(moved(METADATA), "ts")
    key, its_map = "#EXT-X-KEY:METHOD=AES-128,URI=", "#EXT-X-MAP:URI="
    refused = {
        "playlist inside": METADATA,
        "playlist redirected inside": at(moved(METADATA)),
        "segment inside": one(METADATA),
        "segment redirected inside": one(there),
        "key inside": one("a.ts", f'{key}"{METADATA}"'),
        "key redirected inside": one("a.ts", f'{key}"{there}"'),
        "map inside": one("a.ts", f'{its_map}"{METADATA}"'),
        "map redirected inside": one("a.ts", f'{its_map}"{there}"'),
        "variant inside": streams.master(METADATA),
        "nested: variant lists a segment inside": streams.master(one(METADATA)),
        "IPv6 address": one("http://[fd00:ec2::254]/a.ts"),
        "IPv4 inside IPv6": one("http://[::ffff:169.254.169.254]/a.ts"),
    }
    for name, url in refused.items():
        yield Case(name, url, "address_refused")
    unread = {
        "decimal address": "http://2852039166/a.ts",
        "octal address": "http://0251.0376.0251.0376/a.ts",
        "hex address": "http://0xa9.0xfe.0xa9.0xfe/a.ts",
        "file:": "file:///etc/passwd",
        "concat:": "concat:file:///etc/passwd|a.ts",
        "data:": "data:video/mp2t;base64,AAAA",
        "user in the URL": "http://cam@169.254.169.254/a.ts",
    }
    for name, uri in unread.items():
        yield Case(name, one(uri), "url_refused")
    yield Case("redirect to file:", one(at(moved("file:///etc/passwd"), "ts")), "url_refused")
    url = streams.good.replace("127.0.0.1", "cam.test")
    yield Case("name that changes its address", url, "address_refused", guard=rebinding_guard())


def rebinding_guard() -> NetGuard:
    """Return a guard whose resolver gives another address from the third question on."""
    asked: list[str] = []

    def resolve(host: str, _port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1" if len(asked) <= 2 else "169.254.169.254"]

    return NetGuard(NetworkPolicy(("cam.test",)), GUARD_LIMITS, resolve=resolve)


def files(streams: Streams) -> Iterator[Case]:
    """Yield plain files that are none."""
    at = streams.at
    jpeg = cv2.imencode(".jpg", np.full((90, 160, 3), 90, np.uint8))[1].tobytes()
    yield Case("file is a picture", at(jpeg, "jpg"), "not_video", kind="auto")
    broken_mp4 = b"\0\0\0\x18ftypisom" + bytes(3000)
    yield Case("file is a broken MP4", at(broken_mp4, "mp4"), "not_video", kind="auto")
    concat = at(b"ffconcat version 1.0\nfile /etc/passwd\n", "mp4")
    yield Case("file is a concat script", concat, "not_video", kind="auto")
    never = at(endless(streams.segment, NULL_PACKETS), "mp4")
    yield Case("file endless", never, "stream_too_large", kind="auto")
    yield Case("file stalled", at(stall, "mp4"), "stream_stalled", SILENCE_SECONDS, kind="auto")
    cut = at(truncated(streams.segment), "mp4")
    yield Case("file truncated", cut, "stream_truncated", kind="auto")


def read(url: str, guard: NetGuard, limits: ReadLimits, kind: Kind) -> str:
    """Read a clip; return how it ended: a code, or `read`."""
    try:
        with ClipReader(url, SECONDS, guard=guard, limits=limits, kind=kind) as clip:
            for _ in clip:
                pass
    except HeadraceError as error:
        return error.code
    return "read" if clip.report.whole else "gaps"


def main() -> None:
    """Run every case beside a good clip and print the table."""
    guard = NetGuard(NetworkPolicy(("127.0.0.1",)), GUARD_LIMITS)
    failed = 0
    print("| stream | code | seconds | at most | neighbour |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as root, HlsServer() as server:
        streams = Streams(server, Path(root))
        for case in cases(streams):
            neighbour: list[str] = []
            thread = threading.Thread(
                target=lambda ends=neighbour: ends.append(
                    read(streams.good, guard, ReadLimits(samples=5), "hls")
                )
            )
            thread.start()
            started = time.monotonic()
            code = read(case.url, case.guard or guard, case.limits, case.kind)
            took = time.monotonic() - started
            thread.join()
            most = case.seconds + SLACK_SECONDS
            fine = code == case.code and took < most and neighbour == ["read"]
            failed += not fine
            note = "" if fine else f" **expected {case.code}**"
            print(f"| {case.name} | `{code}`{note} | {took:.1f} | {most:g} | {neighbour[0]} |")
    sys.exit(int(failed > 0))


if __name__ == "__main__":
    main()
