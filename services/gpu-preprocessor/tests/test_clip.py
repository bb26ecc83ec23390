"""Real streams, read to their end through the guard and the decoder process."""

from pathlib import Path

import numpy as np
import psutil
import pytest

from headrace_common.netguard import NetGuard
from headrace_gpu_preprocessor.simulate import Handler, HlsServer, Scene
from headrace_gpu_preprocessor.video import ClipReader, ClipReport, Frame, ReadLimits

_LIMITS = ReadLimits(samples=12)


def _read(
    url: str, guard: NetGuard, seconds: float = 4, limits: ReadLimits = _LIMITS
) -> tuple[list[Frame], ClipReport]:
    with ClipReader(url, seconds, guard=guard, limits=limits) as clip:
        frames = list(clip)
        return frames, clip.report


def _assert_shows(scene: Scene, frames: list[Frame]) -> None:
    """Compare with what was encoded: the right pictures, in order, within compression."""
    for frame in frames:
        truth = scene.frame(round(frame.time * scene.rate))
        assert np.abs(frame.pixels.astype(int) - truth).mean() < 6


@pytest.mark.parametrize("form", ["ts", "fmp4", "aes", "ranges"])
def test_vod_in_every_format(
    form: str, streams: dict[str, Path], server: HlsServer, guard: NetGuard, scene: Scene
) -> None:
    frames, report = _read(server.add_vod("/cam", streams[form]), guard)
    assert len(frames) == report.samples == 12
    assert report.whole
    assert not report.live
    assert report.span_seconds == pytest.approx(4, abs=0.1)
    assert (report.codec, report.width, report.height) == ("h264", 320, 180)
    _assert_shows(scene, frames)


@pytest.mark.parametrize("form", ["ts", "fmp4", "aes"])
def test_live_across_the_loops_discontinuity(
    form: str, streams: dict[str, Path], server: HlsServer, guard: NetGuard
) -> None:
    frames, report = _read(server.add_live("/cam", streams[form]), guard, seconds=6.5)
    assert report.live
    assert not report.short
    assert report.discontinuities >= 1
    assert report.gaps == ()
    assert len(frames) == 12


def test_the_decoder_is_shut_in(
    streams: dict[str, Path], server: HlsServer, guard: NetGuard
) -> None:
    assert _read(server.add_vod("/cam", streams["ts"]), guard)[1].closed_off


def test_a_master_playlist_and_a_redirect(
    streams: dict[str, Path], server: HlsServer, guard: NetGuard, scene: Scene
) -> None:
    server.add_vod("/elsewhere", streams["fmp4"])
    moved = {"Location": "/elsewhere/index.m3u8"}
    server.add("/mid.m3u8", lambda handler: handler.reply(b"", status=302, headers=moved))
    master = (
        b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=9,RESOLUTION=3840x2160\nhigh.m3u8\n"
        b"#EXT-X-STREAM-INF:BANDWIDTH=5,RESOLUTION=1280x720\nmid.m3u8\n"
    )
    frames, report = _read(server.add("/master.m3u8", master), guard)
    assert report.whole
    _assert_shows(scene, frames)
    assert "/high.m3u8" not in server.asked


def test_a_missing_segment_is_a_gap(
    streams: dict[str, Path], server: HlsServer, guard: NetGuard, scene: Scene
) -> None:
    url = server.add_vod("/cam", streams["ts"])
    server.add("/cam/segment00002.ts", lambda handler: handler.reply(b"", status=404))
    frames, report = _read(url, guard)
    assert report.faults == ("stream_not_found",)
    assert [round(gap.seconds) for gap in report.gaps] == [1]
    assert report.covered_seconds == pytest.approx(3, abs=0.15)
    assert not report.whole
    _assert_shows(scene, frames)


def test_a_truncated_segment_is_noted_and_survived(
    streams: dict[str, Path], server: HlsServer, guard: NetGuard
) -> None:
    url = server.add_vod("/cam", streams["ts"])
    whole = (streams["ts"].parent / "segment00001.ts").read_bytes()

    def cut(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(whole)))
        handler.end_headers()
        handler.wfile.write(whole[: len(whole) // 2])
        handler.close_connection = True

    server.add("/cam/segment00001.ts", cut)
    _, report = _read(url, guard)
    assert report.faults == ("stream_truncated",)
    assert not report.whole


def test_a_short_stream_is_reported_as_short(
    streams: dict[str, Path], server: HlsServer, guard: NetGuard
) -> None:
    _, report = _read(server.add_vod("/cam", streams["ts"]), guard, seconds=12)
    assert report.short
    assert not report.whole
    assert report.covered_seconds == pytest.approx(8, abs=0.1)


def test_a_range_is_cut_out_when_the_server_ignores_it(
    streams: dict[str, Path], server: HlsServer, guard: NetGuard, scene: Scene
) -> None:
    url = server.add_vod("/cam", streams["ranges"])
    whole = (streams["ranges"].parent / "all.m4s").read_bytes()

    def ignores_ranges(handler: Handler) -> None:
        del handler.headers["Range"]
        handler.reply(whole)

    server.add("/cam/all.m4s", ignores_ranges)
    frames, report = _read(url, guard)
    assert report.whole
    _assert_shows(scene, frames)


def test_leaving_early_ends_the_decoder(
    streams: dict[str, Path], server: HlsServer, guard: NetGuard
) -> None:
    before = {child.pid for child in psutil.Process().children()}
    with ClipReader(server.add_vod("/cam", streams["ts"]), 4, guard=guard) as clip:
        assert next(iter(clip)).pixels.shape == (180, 320, 3)
        assert {child.pid for child in psutil.Process().children()} > before
    assert {child.pid for child in psutil.Process().children()} <= before


def test_frames_are_handed_over_no_larger_than_ordered(
    streams: dict[str, Path], server: HlsServer, guard: NetGuard
) -> None:
    limits = ReadLimits(samples=3, output_pixels=160 * 90)
    frames, report = _read(server.add_vod("/cam", streams["ts"]), guard, limits=limits)
    assert {frame.pixels.shape for frame in frames} == {(90, 160, 3)}
    assert (report.width, report.height) == (320, 180)
