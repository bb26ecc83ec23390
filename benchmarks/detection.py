"""Finding the damage on a background beside plain inference, in one run.

The whole analysis (views, tiles, merging, measuring) of a rendered 720p road beside one inference
of the whole picture at the model's best size, and one of the picture at its full size, on as many
threads. Rounds alternate, the best of each counts. Exits 1 if a promise is broken: what the
analysis adds to its inferences is at most half of what they cost by the pixel.

    python benchmarks/detection.py [--width 1280] [--height 720] [--rounds 10] [--threads 2]
"""

import argparse
import sys
import time
from collections.abc import Callable

import cv2
import numpy as np

from headrace_gpu_preprocessor.detection.analysis import analyse
from headrace_gpu_preprocessor.detection.drawing import draw, encode_jpeg, preload
from headrace_gpu_preprocessor.detection.load import load_detector
from headrace_gpu_preprocessor.detection.settings import DetectionSettings
from headrace_gpu_preprocessor.simulate import Scene

#: Analysis by the pixel that the model sees, as a multiple of plain inference by the pixel.
PROMISE = 1.5
MEGA = 1e6


def main() -> None:
    """Read the options, measure, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()

    settings = DetectionSettings.load().model_copy(update={"detector_threads": options.threads})
    detector = load_detector(settings)
    scene = Scene("light", options.width, options.height)
    picture, road = scene.truth, scene.road.mask
    found = analyse(picture, None, road, detector, settings)
    side = detector.info.best_size
    scale = side / min(options.width, options.height)
    size = (round(options.width * scale), round(options.height * scale))
    small = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    preload()
    calls: dict[str, Callable[[], object]] = {
        "analysis, road region": lambda: analyse(picture, None, road, detector, settings),
        "analysis, whole picture": lambda: analyse(picture, None, None, detector, settings),
        "inference, best size": lambda: detector.detect([small]),
        "inference, full size": lambda: detector.detect([picture]),
        "drawing and encoding": lambda: encode_jpeg(draw(picture, found, region_mask=road)),
    }
    seconds = measure(calls, options.rounds)
    plain = seconds["inference, best size"]
    print(f"{options.width}x{options.height}, {options.threads} threads, {detector.info.runtime}")
    for name, best in seconds.items():
        print(f"{name:26}{best * 1000:8.0f} ms   x {best / plain:.2f}")
    tiles, seen = found.plan.tiles, found.plan.pixels
    print(f"{len(tiles)} tiles at scale {tiles[0].scale if tiles else 0:.2f}, {seen / MEGA:.2f} MP")
    by_pixel = seconds["analysis, road region"] / seen / (plain / (size[0] * size[1]))
    print(f"analysis by the pixel: {by_pixel:.2f} times plain inference, promised {PROMISE}")
    sys.exit(by_pixel > PROMISE)


def measure(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the best time of each call, in seconds."""
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds + 1):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            best[name] = min(best[name], time.perf_counter() - started)
    return best


if __name__ == "__main__":
    main()
