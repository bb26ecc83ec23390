"""Hostile and broken streams: each ends with its own code, within its time, and hurts nobody."""

import re
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from headrace_common.errors import HeadraceError
from headrace_common.netguard import FetchLimits, NetGuard, NetworkPolicy
from headrace_gpu_preprocessor.simulate import Handler, HlsServer, write_hls
from headrace_gpu_preprocessor.simulate.faults import endless, stall
from headrace_gpu_preprocessor.video import ClipReader, ReadLimits

_SECRET = b"inside"


def _code(
    url: str,
    guard: NetGuard,
    *,
    within: float = 30,
    seconds: float = 4,
    limits: ReadLimits | None = None,
) -> str:
    """Read a clip that must fail in time, and return the code."""
    started = time.monotonic()
    with (
        pytest.raises(HeadraceError) as caught,
        ClipReader(url, seconds, guard=guard, limits=limits) as clip,
    ):
        for _ in clip:
            pass
    assert time.monotonic() - started < within, caught.value
    return caught.value.code


def _endless_video(playlist: Path) -> Callable[[Handler], None]:
    """Serve a real segment, then null packets of MPEG-TS for ever."""
    null = b"\x47\x1f\xff\x10" + b"\xff" * 184
    return endless((playlist.parent / "segment00000.ts").read_bytes(), null * 500)


def _status(status: int) -> Callable[[Handler], None]:
    return lambda handler: handler.reply(b"", status=status)


def _one(server: HlsServer, uri: str, *tags: str) -> str:
    """Serve a playlist of one segment; return its URL."""
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:4", *tags, "#EXTINF:4,", uri, "#EXT-X-ENDLIST", ""]
    return server.add("/one.m3u8", "\n".join(lines).encode())


@pytest.mark.parametrize(
    ("route", "code"),
    [
        (_status(404), "stream_not_found"),
        (_status(503), "stream_unavailable"),
        (stall, "stream_stalled"),
        (endless(b"#EXTM3U\n", b"#\n" * 50_000), "playlist_too_large"),
        (b"<html>camera is off</html>", "not_hls"),
        (b"\xff\xd8\xff\xe0 a picture", "not_hls"),
        (b"", "not_hls"),
        (b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nat.m3u8\n", "bad_playlist"),
        (b"#EXTM3U\n#EXTINF:4,\nat.m3u8\n#EXT-X-ENDLIST\n", "not_video"),
        (b"#EXTM3U\n#EXT-X-ENDLIST\n", "bad_playlist"),
    ],
)
def test_bad_playlists(
    route: bytes | Callable[[Handler], None],
    code: str,
    server: HlsServer,
    guard: NetGuard,
    hasty_guard: NetGuard,
) -> None:
    by = hasty_guard if route is stall else guard
    assert _code(server.add("/at.m3u8", route), by) == code


@pytest.mark.parametrize(
    ("route", "code"),
    [
        (_status(404), "stream_not_found"),
        (stall, "stream_stalled"),
        (endless(b"", bytes(100_000)), "not_video"),
        (b"GIF89a" + bytes(5000), "not_video"),
        (bytes(range(256)) * 200, "not_video"),
        (b"", "not_video"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "not_video"),
    ],
)
def test_bad_segments(
    route: bytes | Callable[[Handler], None],
    code: str,
    server: HlsServer,
    guard: NetGuard,
    hasty_guard: NetGuard,
) -> None:
    server.add("/a.ts", route)
    limits = ReadLimits(segment_bytes=3_000_000)
    by = hasty_guard if route is stall else guard
    assert _code(_one(server, "a.ts"), by, limits=limits) == code


def test_a_segment_without_end(
    streams: dict[str, Path], server: HlsServer, guard: NetGuard
) -> None:
    server.add("/a.ts", _endless_video(streams["ts"]))
    limits = ReadLimits(segment_bytes=3_000_000)
    assert _code(_one(server, "a.ts"), guard, limits=limits) == "stream_too_large"


def test_every_segment_stalled_ends_after_a_few(
    streams: dict[str, Path], server: HlsServer, hasty_guard: NetGuard
) -> None:
    url = server.add_vod("/cam", streams["ts"])
    for number in range(8):
        server.add(f"/cam/segment{number:05}.ts", stall)
    assert _code(url, hasty_guard) == "stream_stalled"
    assert len([path for path in server.asked if path.endswith(".ts")]) == 3


def test_a_frozen_live_playlist(
    streams: dict[str, Path], server: HlsServer, guard: NetGuard
) -> None:
    vod = streams["ts"].read_text()
    server.add_vod("/cam", streams["ts"])
    frozen = vod.replace("#EXT-X-PLAYLIST-TYPE:VOD\n", "").partition(
        "#EXTINF:1.000000,\nsegment00003"
    )
    url = server.add("/cam/live.m3u8", frozen[0].encode())
    limits = ReadLimits(frozen_seconds=1)
    assert _code(url, guard, seconds=8, limits=limits) == "stream_frozen"


def test_a_live_stream_that_dies_is_read_as_far_as_it_went(
    streams: dict[str, Path], server: HlsServer, guard: NetGuard
) -> None:
    server.add_vod("/cam", streams["ts"])
    text = streams["ts"].read_text().replace("#EXT-X-ENDLIST\n", "")
    answers = iter([text.replace("#EXT-X-PLAYLIST-TYPE:VOD\n", "").encode()])

    def dies(handler: Handler) -> None:
        handler.reply(next(answers, b""), status=200)

    url = server.add("/cam/live.m3u8", dies)
    limits = ReadLimits(frozen_seconds=1, faults=20)
    with ClipReader(url, 4, guard=guard, limits=limits) as clip:
        assert list(clip)
        # Three segments from the end, as players start a live stream; then nothing new.
        assert clip.report.short
        assert clip.report.faults[-1] == "stream_frozen"


@pytest.mark.parametrize("size", [(640, 400), (8192, 4320)])
def test_a_frame_that_is_too_large(
    size: tuple[int, int], tmp_path: Path, server: HlsServer, guard: NetGuard
) -> None:
    width, height = size
    frames = [np.zeros((height, width, 3), np.uint8)] * (20 if height < 1000 else 2)
    url = server.add_vod("/huge", write_hls(frames, 10, tmp_path))
    limits = ReadLimits(most_pixels=min(width * height - 1, 4096 * 2304))
    assert _code(url, guard, limits=limits) == "frame_too_large"


def test_memory_is_limited(tmp_path: Path, server: HlsServer, guard: NetGuard) -> None:
    frames = [np.zeros((2160, 3840, 3), np.uint8)] * 2
    url = server.add_vod("/large", write_hls(frames, 10, tmp_path))
    limits = ReadLimits(memory_bytes=40 * 1024 * 1024)
    assert _code(url, guard, limits=limits) == "video_memory_limit"


def test_too_many_frames_and_bytes(
    streams: dict[str, Path], server: HlsServer, guard: NetGuard
) -> None:
    url = server.add_vod("/cam", streams["ts"])
    assert _code(url, guard, limits=ReadLimits(frames_per_second=1)) == "too_many_frames"
    assert _code(url, guard, limits=ReadLimits(total_bytes=20_000)) == "stream_too_large"


def test_the_clock_on_the_wall(
    streams: dict[str, Path], server: HlsServer, guard: NetGuard
) -> None:
    url = server.add_live("/cam", streams["ts"])
    limits = ReadLimits(wall_seconds=1.5)
    assert _code(url, guard, seconds=60, limits=limits) == "video_time_limit"


def test_too_short(streams: dict[str, Path], server: HlsServer, guard: NetGuard) -> None:
    assert _code(server.add_vod("/cam", streams["ts"]), guard, seconds=60) == "clip_too_short"


@pytest.mark.parametrize("key", [b"short", bytes(16), bytes(32)])
def test_a_wrong_key(
    key: bytes, streams: dict[str, Path], server: HlsServer, guard: NetGuard
) -> None:
    url = server.add_vod("/cam", streams["aes"])
    server.add("/cam/stream.key", key)
    assert _code(url, guard) == "bad_key"


def test_sound_alone(server: HlsServer, guard: NetGuard) -> None:
    master = b'#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS="mp4a.40.2"\na.m3u8\n'
    assert _code(server.add("/m.m3u8", master), guard) == "bad_playlist"


class _Inside:
    """A server that nobody may reach; it counts who connects."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.2", 0))
        self.connections = 0
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    @property
    def address(self) -> str:
        return f"127.0.0.2:{self.listener.getsockname()[1]}"

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            connection.close()
            self.connections += 1

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()


_ROADS_INSIDE = {
    "segment": "#EXTM3U\n#EXTINF:4,\nhttp://{inside}/a.ts\n#EXT-X-ENDLIST\n",
    "map": '#EXTM3U\n#EXT-X-MAP:URI="http://{inside}/i.mp4"\n#EXTINF:4,\na.ts\n#EXT-X-ENDLIST\n',
    "key": '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="http://{inside}/k"\n#EXTINF:4,\na.ts\n'
    "#EXT-X-ENDLIST\n",
    "variant": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nhttp://{inside}/v.m3u8\n",
    "nested": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nsegment.m3u8\n",
    "redirected": "#EXTM3U\n#EXTINF:4,\nmoved.ts\n#EXT-X-ENDLIST\n",
    "name": "#EXTM3U\n#EXTINF:4,\nhttp://inside.test/a.ts\n#EXT-X-ENDLIST\n",
    "metadata": "#EXTM3U\n#EXTINF:4,\nhttp://169.254.169.254/latest/meta-data\n#EXT-X-ENDLIST\n",
    "ipv6": "#EXTM3U\n#EXTINF:4,\nhttp://[::ffff:127.0.0.2]/a.ts\n#EXT-X-ENDLIST\n",
}


@pytest.mark.parametrize("road", _ROADS_INSIDE)
def test_no_road_leads_inside(road: str, server: HlsServer) -> None:
    """The stream's host is public (by the resolver's word); everything else is not."""
    inside = _Inside()
    names = {"cam.test": ["127.0.0.1"], "inside.test": ["127.0.0.2"]}
    guard = NetGuard(
        NetworkPolicy(("cam.test",)),
        FetchLimits(connect_seconds=10, silence_seconds=20, total_seconds=60),
        resolve=lambda host, _: names.get(host, [host]),
    )
    for name, text in _ROADS_INSIDE.items():
        server.add(f"/{name}.m3u8", text.format(inside=inside.address).encode())
    server.add("/a.ts", _SECRET)
    moved = {"Location": f"http://{inside.address}/a.ts"}
    server.add("/moved.ts", lambda handler: handler.reply(b"", status=302, headers=moved))
    try:
        url = f"{server.url}/{road}.m3u8".replace("127.0.0.1", "cam.test")
        assert _code(url, guard) == "address_refused"
    finally:
        inside.close()
    assert inside.connections == 0


@pytest.mark.parametrize(
    "uri",
    [
        "file:///etc/passwd",
        "concat:file:///etc/passwd|a.ts",
        "crypto+http://127.0.0.1/a.ts",
        "data:video/mp2t;base64,AAAA",
        "subfile,,start,0,end,9,,:/etc/passwd",
        "tcp://127.0.0.1:22",
        "http://2130706434/a.ts",
        "http://0x7f.2/a.ts",
        "http://user@127.0.0.1/a.ts",
    ],
)
def test_no_other_scheme_or_strange_address(uri: str, server: HlsServer, guard: NetGuard) -> None:
    code = _code(_one(server, uri), guard)
    # Without a scheme of its own, a URI is a path on the stream's own host.
    relative = re.match(r"[a-z+]+:", uri) is None
    assert code == ("stream_not_found" if relative else "url_refused")


def test_a_name_that_changes_its_address_is_refused_when_it_does(
    streams: dict[str, Path], server: HlsServer
) -> None:
    asked: list[str] = []

    def rebinding(host: str, _port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1" if len(asked) <= 2 else "169.254.169.254"]

    guard = NetGuard(NetworkPolicy(("cam.test",)), resolve=rebinding)
    url = server.add_vod("/cam", streams["ts"]).replace("127.0.0.1", "cam.test")
    assert _code(url, guard) == "address_refused"


def test_a_bad_stream_does_not_hurt_its_neighbour(
    streams: dict[str, Path], server: HlsServer, guard: NetGuard
) -> None:
    server.add("/a.ts", _endless_video(streams["ts"]))
    bad, good = _one(server, "a.ts"), server.add_vod("/cam", streams["ts"])
    codes: list[str] = []
    thread = threading.Thread(target=lambda: codes.append(_code(bad, guard, within=60)))
    thread.start()
    with ClipReader(good, 4, guard=guard) as clip:
        assert len(list(clip)) == 48
        assert clip.report.whole
    thread.join()
    assert codes == ["stream_too_large"]
