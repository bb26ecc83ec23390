"""Streams made once for all tests, and a server for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from artifact_scene import make_swift_store, swift_settings, swift_store
from stream_harness import KINDS, Bench, RedisServer

from headrace_common.netguard import FetchLimits, NetGuard, NetworkPolicy
from headrace_gpu_preprocessor.simulate import HlsFormat, HlsServer, Scene, write_hls

__all__ = ["make_swift_store", "swift_settings", "swift_store"]

KEY = bytes(range(16))
FORMATS = {
    "ts": HlsFormat(segment_seconds=1),
    "fmp4": HlsFormat("fmp4", segment_seconds=1),
    "aes": HlsFormat(segment_seconds=1, key=KEY),
    "ranges": HlsFormat("fmp4", segment_seconds=1, single_file=True),
}


@pytest.fixture(scope="session")
def scene() -> Scene:
    """What the streams show."""
    return Scene("light", 320, 180, seconds=8, rate=12)


@pytest.fixture(scope="session")
def streams(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same eight seconds of a small scene in every format: name to playlist."""
    frames = list(scene.frames())
    return {
        name: write_hls(frames, scene.rate, tmp_path_factory.mktemp(name), form)
        for name, form in FORMATS.items()
    }


@pytest.fixture
def server() -> Iterator[HlsServer]:
    with HlsServer() as running:
        yield running


@pytest.fixture
def guard() -> NetGuard:
    """Loopback only."""
    limits = FetchLimits(connect_seconds=10, silence_seconds=20, total_seconds=60)
    return NetGuard(NetworkPolicy(("127.0.0.1",)), limits)


@pytest.fixture
def hasty_guard() -> NetGuard:
    """As `guard`, but it soon takes a silent server for stalled: a busy one too, therefore."""
    limits = FetchLimits(connect_seconds=10, silence_seconds=1.5, total_seconds=60)
    return NetGuard(NetworkPolicy(("127.0.0.1",)), limits)


@pytest.fixture(scope="session", params=KINDS)
def redis_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer]:
    """Valkey, then Debian's Redis 7.0; each with a stream of its own for each test."""
    server = RedisServer(request.param, tmp_path_factory.mktemp(request.param)).start()
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
def bench(redis_server: RedisServer) -> Iterator[Bench]:
    """A stream of this test's own."""
    made = Bench(redis_server)
    try:
        yield made
    finally:
        made.close()
