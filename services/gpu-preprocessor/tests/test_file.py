"""Plain video files from a URL: as hostile as streams, and read as well."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from headrace_common.errors import HeadraceError
from headrace_common.netguard import NetGuard
from headrace_gpu_preprocessor.simulate import Handler, HlsServer, Scene
from headrace_gpu_preprocessor.video import ClipReader, ReadLimits
from headrace_gpu_preprocessor.video.sniff import Kind

_CONTAINERS = {"mp4": "mov", "mkv": "matroska", "avi": "avi", "ts": "mpegts"}
_LIMITS = ReadLimits(samples=12)


@pytest.fixture(scope="session")
def files(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The scene of the streams as a file of each kind. FFmpeg puts MP4's index at the end."""
    directory = tmp_path_factory.mktemp("files")
    frames = list(scene.frames())
    for name in _CONTAINERS:
        with av.open(str(directory / f"a.{name}"), "w") as container:
            codec = "mpeg4" if name == "avi" else "libx264"
            stream = container.add_stream(codec, rate=scene.rate)
            assert isinstance(stream, VideoStream)
            stream.width, stream.height, stream.pix_fmt = scene.width, scene.height, "yuv420p"
            stream.bit_rate = 2_000_000
            for frame in frames:
                container.mux(stream.encode(VideoFrame.from_ndarray(frame, format="bgr24")))
            container.mux(stream.encode())
    return {name: (directory / f"a.{name}").read_bytes() for name in _CONTAINERS}


def _code(
    url: str, guard: NetGuard, limits: ReadLimits = _LIMITS, kind: Kind = "auto", within: float = 30
) -> str:
    started = time.monotonic()
    with (
        pytest.raises(HeadraceError) as caught,
        ClipReader(url, 4, guard=guard, limits=limits, kind=kind) as clip,
    ):
        list(clip)
    assert time.monotonic() - started < within, caught.value
    return caught.value.code


@pytest.mark.parametrize("name", _CONTAINERS)
def test_every_container(
    name: str, files: dict[str, bytes], server: HlsServer, guard: NetGuard, scene: Scene
) -> None:
    url = server.add("/anything", files[name])
    with ClipReader(url, 4, guard=guard, limits=_LIMITS, kind="auto") as clip:
        frames = list(clip)
    report = clip.report
    assert len(frames) == 12
    assert report.whole
    assert report.closed_off
    assert not report.live
    assert report.bytes_read == len(files[name])
    for frame in frames:
        truth = scene.frame(round(frame.time * scene.rate))
        assert np.abs(frame.pixels.astype(int) - truth).mean() < 8


def test_the_index_of_the_mp4_is_at_the_end(files: dict[str, bytes]) -> None:
    assert files["mp4"].find(b"moov") > files["mp4"].find(b"mdat") > 0


@pytest.mark.parametrize("kind", ["hls", "auto"])
def test_the_content_decides_that_it_is_a_playlist(
    kind: Kind, streams: dict[str, Path], server: HlsServer, guard: NetGuard
) -> None:
    url = server.add_vod("/cam", streams["ts"])
    with ClipReader(url, 4, guard=guard, limits=_LIMITS, kind=kind) as clip:
        assert len(list(clip)) == 12
    assert clip.report.whole


def test_what_was_asked_for_is_what_is_taken(
    streams: dict[str, Path], files: dict[str, bytes], server: HlsServer, guard: NetGuard
) -> None:
    assert _code(server.add_vod("/cam", streams["ts"]), guard, kind="file") == "not_video"
    assert _code(server.add("/a.mp4", files["mp4"]), guard, kind="hls") == "not_hls"


def _picture(extension: str) -> bytes:
    return cv2.imencode(extension, np.full((90, 160, 3), 90, np.uint8))[1].tobytes()


@pytest.mark.parametrize(
    "body",
    [
        _picture(".jpg"),
        _picture(".png"),
        _picture(".webp"),
        _picture(".bmp"),
        b"GIF89a" + bytes(500),
        b"",
        b"<html>camera is off</html>",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"\x47" + bytes(2000),
        b"\0\0\0\x18ftypisom" + bytes(3000),
        b"\x1a\x45\xdf\xa3" + bytes(3000),
        b"RIFF\xff\xff\xff\xffAVI LIST" + bytes(3000),
        (b"\x47" + b"\xff" * 187) * 50,
    ],
)
def test_what_is_no_video(body: bytes, server: HlsServer, guard: NetGuard) -> None:
    assert _code(server.add("/a", body), guard) == "not_video"


def _send(handler: Handler, promised: int, body: bytes, then: Callable[[], None]) -> None:
    handler.send_response(200)
    if promised:
        handler.send_header("Content-Length", str(promised))
    handler.end_headers()
    handler.wfile.write(body)
    handler.close_connection = True
    then()


def wait(event: threading.Event) -> None:
    event.wait(60)


def test_broken_servers(
    files: dict[str, bytes], server: HlsServer, guard: NetGuard, hasty_guard: NetGuard
) -> None:
    body = files["mp4"]
    gone = threading.Event()

    def cut(handler: Handler) -> None:
        _send(handler, len(body), body[: len(body) // 2], lambda: None)

    def stalls(handler: Handler) -> None:
        _send(handler, len(body), body[: len(body) // 2], lambda: wait(gone))

    def endless(handler: Handler) -> None:
        def more() -> None:
            while True:
                handler.wfile.write(bytes(100_000))

        _send(handler, 0, body, more)

    missing = _code(server.url + "/none.mp4", guard)
    truncated = _code(server.add("/cut.mp4", cut), guard)
    stalled = _code(server.add("/stalls.mp4", stalls), hasty_guard)
    gone.set()
    limits = ReadLimits(file_bytes=3_000_000)
    too_large = _code(server.add("/endless.mp4", endless), guard, limits)
    assert (missing, truncated, stalled, too_large) == (
        "stream_not_found", "stream_truncated", "stream_stalled", "stream_too_large",
    )  # fmt: skip


def test_a_file_cut_short_by_its_maker(
    files: dict[str, bytes], server: HlsServer, guard: NetGuard
) -> None:
    """Without its index an MP4 is nothing; MPEG-TS is read as far as it goes."""
    half = len(files["mp4"]) // 2
    assert _code(server.add("/a.mp4", files["mp4"][:half]), guard) == "not_video"
    third = len(files["ts"]) // 3
    url = server.add("/a.ts", files["ts"][:third])
    with ClipReader(url, 4, guard=guard, limits=_LIMITS, kind="auto") as clip:
        assert list(clip)
    assert clip.report.short


def test_limits(files: dict[str, bytes], server: HlsServer, guard: NetGuard) -> None:
    url = server.add("/a.mp4", files["mp4"])
    assert _code(url, guard, ReadLimits(file_bytes=1000)) == "stream_too_large"
    assert _code(url, guard, ReadLimits(most_pixels=320 * 180 - 1)) == "frame_too_large"
    assert _code(url, guard, ReadLimits(frames_per_second=1)) == "too_many_frames"
    assert _code(url, guard, ReadLimits(min_coverage=3)) == "clip_too_short"
    assert _code(url, guard, ReadLimits(wall_seconds=0.01)) == "video_time_limit"


def test_a_redirect_inside_is_refused(server: HlsServer, guard: NetGuard) -> None:
    moved = {"Location": "http://169.254.169.254/latest/meta-data"}
    url = server.add("/a", lambda handler: handler.reply(b"", status=302, headers=moved))
    assert _code(url, guard) == "address_refused"


def test_the_container_is_what_was_seen_and_nothing_else(
    files: dict[str, bytes], server: HlsServer, guard: NetGuard
) -> None:
    """A playlist behind the start of an MP4 is not found by FFmpeg's own guessing."""
    body = b"\0\0\0\x08free#EXTM3U\n#EXTINF:4,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
    assert _code(server.add("/a", body + bytes(1000)), guard) == "not_video"
