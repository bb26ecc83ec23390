"""Backgrounds of rendered scenes against their known truth, beside the median, MOG2 and KNN.

Every scene goes through x264, as a camera's would. Prints PSNR on the road, the share of bad
pixels and the time, and how long reading a clip through the guarded decoder process takes beside
decoding it in this process. Exits 1 if a promise is broken: never below the median; with shake
2 dB above it; with an earlier background of the camera 2 dB (parked vehicle) and 6 dB (jam).

    python benchmarks/background.py [--width 1280] [--height 720] [--seconds 20] [--rate 25]
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from headrace_common.netguard import NetGuard, NetworkPolicy
from headrace_gpu_preprocessor.background import BackgroundBuilder, CameraMemory
from headrace_gpu_preprocessor.background.estimate import median
from headrace_gpu_preprocessor.simulate import VARIANTS, HlsServer, Scene, Variant, write_hls
from headrace_gpu_preprocessor.video import ClipReader, Frame

Image = NDArray[np.uint8]

NOW = 1_800_000_000.0
BAD_LEVELS = 20
#: Shake moves the edges in and out; they are not judged.
EDGE = 8
EQUAL_DB = 0.01
#: Decibels above the plain median that are promised.
PROMISES = {
    ("light", "alone"): -EQUAL_DB,
    ("heavy", "alone"): -EQUAL_DB,
    ("parked", "alone"): -EQUAL_DB,
    ("jam", "alone"): -EQUAL_DB,
    ("shake", "alone"): 2.0,
    ("parked", "with earlier"): 2.0,
    ("jam", "with earlier"): 6.0,
}
Subtractor = cv2.BackgroundSubtractorMOG2 | cv2.BackgroundSubtractorKNN


class Clip:
    """One scene, encoded, served and read."""

    def __init__(self, scene: Scene, server: HlsServer, directory: Path) -> None:
        """Encode and read it."""
        self.scene = scene
        self.playlist = write_hls(scene.frames(), scene.rate, directory)
        url = server.add_vod(f"/{directory.name}", self.playlist)
        guard = NetGuard(NetworkPolicy(("127.0.0.1",)))
        started = time.perf_counter()
        with ClipReader(url, scene.seconds, guard=guard) as clip:
            self.frames: list[Frame] = list(clip)
        self.read_seconds = time.perf_counter() - started

    def build(self, earlier: CameraMemory | None, now: float) -> tuple[Image, CameraMemory, float]:
        """Build its background; return it, the memory and the seconds that it took."""
        started = time.perf_counter()
        builder = BackgroundBuilder()
        for frame in self.frames:
            builder.add(frame.pixels, frame.time)
        built = builder.build(now=now, earlier=earlier)
        return built.picture, built.memory, time.perf_counter() - started

    def decode_only(self) -> float:
        """Return the seconds of decoding every frame in this process, with as many threads."""
        started = time.perf_counter()
        with av.open(str(self.playlist)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_type = "AUTO"
            stream.codec_context.thread_count = 2
            for _ in container.decode(stream):
                pass
        return time.perf_counter() - started

    def subtract(self, subtractor: Subtractor) -> Image:
        """Feed every frame to one of OpenCV's subtractors."""
        with av.open(str(self.playlist)) as container:
            for frame in container.decode(video=0):
                subtractor.apply(frame.to_ndarray(format="bgr24"))
        return cast("Image", subtractor.getBackgroundImage())

    def judge(self, picture: Image) -> tuple[float, float]:
        """Return PSNR in decibels and the percentage of bad pixels, on the road."""
        where = np.zeros_like(self.scene.road.mask)
        where[EDGE:-EDGE, EDGE:-EDGE] = True
        where &= self.scene.road.mask
        off = picture[where].astype(float) - self.scene.truth[where]
        bad = (np.abs(off).max(axis=1) > BAD_LEVELS).mean()
        return float(10 * np.log10(255**2 / (off**2).mean())), float(bad * 100)


def run(options: argparse.Namespace, server: HlsServer, root: Path) -> list[str]:
    """Run every scene, print the table, return the promises that were broken."""

    def clip(variant: Variant, seed: int, light: float = 1.0) -> Clip:
        scene = Scene(
            variant, options.width, options.height, options.seconds, options.rate, seed, light=light
        )
        return Clip(scene, server, Path(tempfile.mkdtemp(dir=root)))

    _, earlier, _ = clip("light", 50, 0.9).build(None, NOW)
    broken = []
    print(f"{'scene':8}{'method':16}{'PSNR dB':>9}{'bad %':>8}{'seconds':>9}")
    for variant in VARIANTS:
        made = clip(variant, 3)
        figures = figures_of(made, earlier)
        for method, (psnr, bad, seconds) in figures.items():
            print(f"{variant:8}{method:16}{psnr:9.2f}{bad:8.2f}{seconds:9.2f}")
            promise = PROMISES.get((variant, method))
            gain = psnr - figures["median"][0]
            if promise is not None and gain < promise:
                broken.append(f"{variant}, {method}: {gain:+.2f} dB, promised {promise:+.2f}")
        decode = made.decode_only()
        print(f"{variant:8}read {made.read_seconds:.2f} s, decode only {decode:.2f} s")
    return broken


def figures_of(clip: Clip, earlier: CameraMemory) -> dict[str, tuple[float, float, float]]:
    """Return PSNR, bad pixels and seconds by method."""
    frames = [frame.pixels for frame in clip.frames]
    count = clip.scene.count
    methods: dict[str, Callable[[], Image]] = {
        "median": lambda: median(frames),
        "MOG2": lambda: clip.subtract(
            cv2.createBackgroundSubtractorMOG2(history=count, detectShadows=False)
        ),
        "KNN": lambda: clip.subtract(
            cv2.createBackgroundSubtractorKNN(history=count, detectShadows=False)
        ),
        "alone": lambda: clip.build(None, NOW + 3600)[0],
        "with earlier": lambda: clip.build(earlier, NOW + 3600)[0],
    }
    figures = {}
    for name, method in methods.items():
        started = time.perf_counter()
        picture = method()
        seconds = time.perf_counter() - started
        figures[name] = (*clip.judge(picture), seconds)
    return figures


def main() -> None:
    """Read the options, run, say what was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rate", type=int, default=25)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root, HlsServer() as server:
        broken = run(options, server, Path(root))
    for line in broken:
        print(f"broken: {line}", file=sys.stderr)
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
