"""Time and memory of the whole preprocess of a clip beside decoding it, in one run.

Serves a rendered clip as VOD on loopback, from a process of its own. In each round: decoding
every frame with PyAV in this process (the peer, as many threads), then the preprocess: reading
through the guarded decoder process (a spare waits, as in the service, and the next one starts
after the reading), background with the camera's earlier one, JPEG, damage detection on the JPEG as
it is stored, and meanwhile the memory is saved. Rounds alternate; medians, the median of each
round's ratio and the peak memory of both processes are printed. Exits 1 above the limit.

The limit is for a clip that takes this machine about 1.6 s to decode, at 8 Mbit/s without B
pictures: a good camera's. What a preprocess costs beside decoding does not depend on the bit rate,
so that clips which are cheaper to decode have larger ratios: a sparing camera's and one that x264
made by itself are shown, without a limit.

    python benchmarks/preprocess.py [--rounds 7] [--size 1280x720] [--seconds 20] [--rate 25]
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import av
import cv2
import numpy as np
import psutil
from numpy.typing import NDArray

from headrace_common.netguard import NetGuard, NetworkPolicy
from headrace_gpu_preprocessor.background import (
    BackgroundBuilder,
    CameraStore,
    DirectoryCameraStore,
)
from headrace_gpu_preprocessor.detection.analysis import analyse
from headrace_gpu_preprocessor.detection.detector import Detector
from headrace_gpu_preprocessor.detection.load import load_detector
from headrace_gpu_preprocessor.detection.settings import DetectionSettings
from headrace_gpu_preprocessor.simulate import HlsFormat, Scene, write_hls
from headrace_gpu_preprocessor.video import ClipReader, DecoderPool

THREADS = 2
JPEG_QUALITY = 92
NOW = 1_800_000_000.0
CAMERA_BITS = 8_000_000
SPARING_BITS = 3_000_000
LIMIT = 1.5
SERVER = """
import sys
from pathlib import Path
from headrace_gpu_preprocessor.simulate import HlsServer
with HlsServer() as server:
    print(server.add_vod("/cam", Path(sys.argv[1])), flush=True)
    sys.stdin.read()
"""


@dataclass
class Stages:
    """Seconds of each part of a preprocess."""

    read: float = 0.0
    background: float = 0.0
    jpeg: float = 0.0
    detect: float = 0.0
    memory: float = 0.0
    peak_bytes: dict[str, int] = field(default_factory=dict)

    @property
    def whole(self) -> float:
        """All of it."""
        return self.read + self.background + self.jpeg + self.detect + self.memory


class Memory:
    """Watches the memory of this process and of the decoder while a block runs.

    Sampled every 20 ms: the child is gone before its own peak could be asked for.
    """

    def __init__(self, other: int) -> None:
        """Watch; `other` is a child that does not count."""
        self._other = other
        self.peak = {"parent": 0, "decoder": 0}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._stop.wait(0.02):
            self._note("parent", me)
            for child in me.children():
                if child.pid == self._other:
                    continue
                self._note("decoder", child)

    def _note(self, name: str, process: psutil.Process) -> None:
        try:
            self.peak[name] = max(self.peak[name], process.memory_info().rss)
        except psutil.NoSuchProcess:
            return  # ended between the list and the question


def decode_only(playlist: Path) -> float:
    """Return the seconds of decoding every frame here."""
    started = time.perf_counter()
    with av.open(str(playlist)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_type = "AUTO"
        stream.codec_context.thread_count = THREADS
        for _ in container.decode(stream):
            pass
    return time.perf_counter() - started


class Pipeline:
    """What a job does, but for the upload."""

    def __init__(self, url: str, seconds: float, store: CameraStore, decoders: DecoderPool) -> None:
        """Load the detector, as a service does once."""
        self._url, self._seconds, self._store = url, seconds, store
        self._decoders = decoders
        self._aside = ThreadPoolExecutor(1)
        self._guard = NetGuard(NetworkPolicy(("127.0.0.1",)))
        self._settings = DetectionSettings()
        self._detector: Detector = load_detector(self._settings)

    def run(self) -> Stages:
        """Process the clip once."""
        stages = Stages()
        started = time.perf_counter()
        builder = BackgroundBuilder()
        with ClipReader(
            self._url, self._seconds, guard=self._guard, decoders=self._decoders
        ) as clip:
            for frame in clip:
                builder.add(frame.pixels, frame.time)
        stages.read, started = time.perf_counter() - started, time.perf_counter()

        earlier = self._store.load("cam")
        stages.memory, started = time.perf_counter() - started, time.perf_counter()

        built = builder.build(now=NOW, earlier=earlier)
        stages.background, started = time.perf_counter() - started, time.perf_counter()

        _, jpeg = cv2.imencode(".jpg", built.picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        stages.jpeg, started = time.perf_counter() - started, time.perf_counter()

        saving = self._aside.submit(self._store.save, "cam", built.memory)
        picture = cv2.imdecode(np.asarray(jpeg, dtype=np.uint8), cv2.IMREAD_COLOR)
        stored: NDArray[np.uint8] = np.asarray(picture, dtype=np.uint8)
        analyse(stored, built.usable, None, self._detector, self._settings)
        stages.detect, started = time.perf_counter() - started, time.perf_counter()

        saving.result()
        stages.memory += time.perf_counter() - started
        return stages


def main() -> None:
    """Run all clips and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rate", type=int, default=25)
    options = parser.parse_args()
    ratio = compare("camera", HlsFormat(camera_bits=CAMERA_BITS), options)
    compare("sparing camera", HlsFormat(camera_bits=SPARING_BITS), options)
    compare("x264", HlsFormat(), options)
    print(f"limit for the camera's clip: {LIMIT:g}")
    sys.exit(int(ratio > LIMIT))


def compare(name: str, form: HlsFormat, options: argparse.Namespace) -> float:
    """Run the rounds of one clip; return the ratio."""
    width, height = (int(side) for side in options.size.split("x"))
    scene = Scene("light", width, height, options.seconds, options.rate, seed=3)
    with tempfile.TemporaryDirectory() as root:
        playlist = write_hls(scene.frames(), scene.rate, Path(tempfile.mkdtemp(dir=root)), form)
        size = sum(file.stat().st_size for file in playlist.parent.iterdir())
        print(f"{name}: {options.size}, {size * 8 / options.seconds / 1e6:.1f} Mbit/s")
        command = [sys.executable, "-c", SERVER, str(playlist)]
        with (
            closing(DecoderPool()) as decoders,
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            ) as server,
        ):
            if server.stdin is None or server.stdout is None:
                raise RuntimeError("the server has no pipes")
            url = server.stdout.readline().strip()
            store = DirectoryCameraStore(Path(root) / "memory")
            pipeline = Pipeline(url, options.seconds, store, decoders)
            pipeline.run()  # warms the caches, and is the camera's earlier background
            decode_only(playlist)
            peers, ours = [], []
            for _ in range(options.rounds):
                peers.append(decode_only(playlist))
                with Memory(server.pid) as memory:
                    ours.append(pipeline.run())
                ours[-1].peak_bytes = memory.peak
            server.stdin.close()
    return report(peers, ours)


def report(peers: list[float], ours: list[Stages]) -> float:
    """Print medians; return the ratio."""
    for name in ("read", "background", "jpeg", "detect", "memory", "whole"):
        print(f"  {name:12}{statistics.median(getattr(stage, name) for stage in ours):8.2f} s")
    print(f"  {'decode only':12}{statistics.median(peers):8.2f} s")
    for name in ("parent", "decoder"):
        peak = max(stage.peak_bytes[name] for stage in ours)
        print(f"  peak memory of the {name}: {peak / 2**20:.0f} MiB")
    ratios = [stage.whole / peer for stage, peer in zip(ours, peers, strict=True)]
    ratio = statistics.median(ratios)
    print(f"  ratio {ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    return ratio


if __name__ == "__main__":
    main()
