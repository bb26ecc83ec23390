"""Decoders that are killed from outside, and what is given back where nothing can be had."""

import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from decoder_watch import is_dead, running_decoders

from headrace_common.netguard import NetGuard
from headrace_gpu_preprocessor.simulate import Handler, HlsServer
from headrace_gpu_preprocessor.video import ClipReader, DecoderPool, ReadLimits
from headrace_gpu_preprocessor.video import pool as pool_module
from headrace_gpu_preprocessor.video.errors import DecoderKilledError
from headrace_gpu_preprocessor.video.memory import FrameMemory
from headrace_gpu_preprocessor.video.process import DecoderProcess
from headrace_local.waiting import wait_until


def kill_decoders() -> list[int]:
    """Kill those of this process, as the kernel does where memory ends; return their ids."""
    killed = running_decoders()
    for child in killed:
        child.kill()
    # Not waited for: that is the business of who started them.
    wait_until(lambda: all(map(is_dead, killed)))
    return [child.pid for child in killed]


def deadly(server: HlsServer, playlist: Path, at: str) -> tuple[str, list[int]]:
    """Serve a clip that has the decoders killed before its playlist or segment is answered."""
    server.add_vod("/cam", playlist)
    names = [
        line if line.startswith("#") or not line else f"/cam/{line}"
        for line in playlist.read_text().splitlines()
    ]
    segment = next(name for name in names if name.startswith("/cam/"))
    names[names.index(segment)] = "/first.ts"
    killed: list[int] = []

    def answer(body: bytes, *, kills: bool) -> Callable[[Handler], None]:
        def reply(handler: Handler) -> None:
            if kills:
                killed.extend(kill_decoders())
            handler.reply(body)

        return reply

    first = (playlist.parent / segment.rpartition("/")[2]).read_bytes()
    server.add("/first.ts", answer(first, kills=at == "segment"))
    url = server.add("/x.m3u8", answer("\n".join(names).encode(), kills=at == "playlist"))
    return url, killed


@pytest.mark.parametrize("at", ["playlist", "segment"])
def test_a_clip_whose_decoder_is_killed_can_be_read_again(
    streams: dict[str, Path], server: HlsServer, guard: NetGuard, at: str
) -> None:
    url, killed = deadly(server, streams["ts"], at)
    with pytest.raises(DecoderKilledError) as caught, ClipReader(url, 4, guard=guard) as clip:
        list(clip)
    assert caught.value.retryable
    assert caught.value.code == "decoder_killed"
    assert len(killed) == 1


def test_a_spare_that_is_killed_before_its_order_is_replaced(
    streams: dict[str, Path], server: HlsServer, guard: NetGuard
) -> None:
    url, killed = deadly(server, streams["ts"], "playlist")
    pool = DecoderPool()
    try:
        limits = ReadLimits(samples=12)
        with ClipReader(url, 4, guard=guard, limits=limits, decoders=pool) as clip:
            assert len(list(clip)) == 12
            assert clip.report.whole
        assert len(killed) == 1
    finally:
        pool.close()


def descriptors() -> set[str]:
    return {each.name for each in Path("/proc/self/fd").iterdir()}


@pytest.mark.parametrize("size", [-1, 1 << 60])
def test_memory_that_cannot_be_had_leaves_no_descriptor(size: int) -> None:
    before = descriptors()
    with pytest.raises((OSError, ValueError)):
        FrameMemory(size)
    assert descriptors() == before


def test_a_decoder_that_cannot_be_started_leaves_no_descriptor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = descriptors()
    monkeypatch.setattr(sys, "executable", "/nothing/here")
    with pytest.raises(FileNotFoundError) as caught:
        DecoderProcess()
    assert descriptors() == before, caught.value


def test_a_pool_goes_on_whatever_starting_a_spare_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    faults: list[Exception] = [ValueError("a fault"), RuntimeError("another")]

    class Faulty(DecoderProcess):
        def __init__(self) -> None:
            if faults:
                raise faults.pop()
            super().__init__()

    monkeypatch.setattr(pool_module, "DecoderProcess", Faulty)
    pool = DecoderPool()
    try:
        pool.warm()
        wait_until(lambda: len(faults) == 1)
        pool.warm()
        wait_until(lambda: not faults)
        pool.warm()
        wait_until(lambda: len(pool._spares) == 1)
        assert pool._spares[0].alive
    finally:
        pool.close()


def test_a_pool_whose_thread_is_gone_gets_another() -> None:
    pool = DecoderPool()
    pool._thread = threading.Thread(target=int)
    pool._thread.start()
    pool._thread.join()
    try:
        pool.warm()
        wait_until(lambda: len(pool._spares) == 1)
    finally:
        pool.close()
