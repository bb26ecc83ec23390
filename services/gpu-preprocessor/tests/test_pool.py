"""Spare decoders: there before a clip, one for each clip, and gone with whoever started them."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from decoder_watch import is_dead, running_decoders

from headrace_common.netguard import NetGuard
from headrace_gpu_preprocessor.simulate import HlsServer
from headrace_gpu_preprocessor.video import ClipReader, ClipReport, DecoderPool, ReadLimits

_PATIENCE_SECONDS = 60


@pytest.fixture
def pool() -> Iterator[DecoderPool]:
    pool = DecoderPool()
    yield pool
    pool.close()


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _decoders() -> set[int]:
    return {decoder.pid for decoder in running_decoders()}


def _spare(pool: DecoderPool | None = None) -> int:
    """Return the one decoder that there is, once there is one."""
    if pool is not None:
        pool.warm()
    _wait(lambda: len(_decoders()) == 1)
    return _decoders().pop()


def _read(url: str, guard: NetGuard, pool: DecoderPool) -> ClipReport:
    limits = ReadLimits(samples=12)
    with ClipReader(url, 4, guard=guard, limits=limits, decoders=pool) as clip:
        assert len(list(clip)) == 12
        return clip.report


def test_each_clip_has_a_decoder_that_was_there_before(
    streams: dict[str, Path], server: HlsServer, guard: NetGuard, pool: DecoderPool
) -> None:
    url = server.add_vod("/cam", streams["ts"])
    first = _spare(pool)
    with ClipReader(url, 4, guard=guard, decoders=pool) as clip:
        next(iter(clip))
        assert _decoders() == {first}
    second = _spare()
    assert second != first
    report = _read(url, guard, pool)
    assert report.whole
    assert report.closed_off
    _wait(lambda: second not in _decoders())


def test_a_spare_that_died_is_replaced(
    streams: dict[str, Path], server: HlsServer, guard: NetGuard, pool: DecoderPool
) -> None:
    spare = _spare(pool)
    psutil.Process(spare).kill()
    _wait(lambda: not _decoders())
    assert _read(server.add_vod("/cam", streams["ts"]), guard, pool).whole
    assert _spare() != spare


def test_a_spare_outlives_the_thread_that_took_the_one_before(
    streams: dict[str, Path], server: HlsServer, guard: NetGuard, pool: DecoderPool
) -> None:
    url = server.add_vod("/cam", streams["ts"])
    thread = threading.Thread(target=_read, args=(url, guard, pool))
    thread.start()
    thread.join()
    spare = _spare()
    with ClipReader(url, 4, guard=guard, decoders=pool) as clip:
        next(iter(clip))
        assert spare in _decoders()


def test_closing_leaves_no_process_and_clips_are_read_without_spares(
    streams: dict[str, Path], server: HlsServer, guard: NetGuard
) -> None:
    pool = DecoderPool(spares=2)
    pool.warm()
    _wait(lambda: len(_decoders()) == 2)
    pool.close()
    assert not _decoders()
    assert _read(server.add_vod("/cam", streams["ts"]), guard, pool).whole
    assert not _decoders()


def test_a_spare_inherits_no_socket(pool: DecoderPool) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            ours.set_inheritable(True)
            _spare(pool)
        theirs.settimeout(_PATIENCE_SECONDS)
        assert theirs.recv(1) == b""


def test_a_spare_dies_with_a_parent_that_is_killed() -> None:
    program = (
        "import sys, time, psutil\n"
        "from headrace_gpu_preprocessor.video import DecoderPool\n"
        "pool = DecoderPool()\n"
        "pool.warm()\n"
        "while not (spares := psutil.Process().children()):\n"
        "    time.sleep(0.01)\n"
        "print(spares[0].pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        spare = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    _wait(lambda: is_dead(spare))


def test_a_pool_without_a_spare_is_none() -> None:
    with pytest.raises(ValueError, match="spare"):
        DecoderPool(spares=0)
