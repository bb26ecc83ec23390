"""The simulator as a program: it serves what a reader reads, says so, and stops when told."""

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from headrace_common.netguard import NetGuard
from headrace_gpu_preprocessor.simulate import Scene
from headrace_gpu_preprocessor.video import ClipReader, ReadLimits

_COMMAND = [sys.executable, "-m", "headrace_gpu_preprocessor.simulate", "serve"]
_SMALL = ["--size", "320x180", "--seconds", "4"]


@contextmanager
def _running(*options: str) -> Iterator[dict[str, Any]]:
    process = subprocess.Popen([*_COMMAND, *options], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.send_signal(signal.SIGTERM)
        process.stdout.close()
        assert process.wait(60) == 0


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - of our own server
        return bytes(answer.read())


def test_cameras_with_their_truth(guard: NetGuard, tmp_path: Path) -> None:
    options = [*_SMALL, "--vod", "--cameras", "2", "--cache", str(tmp_path)]
    with _running(*options) as ready:
        assert [camera["id"] for camera in ready["cameras"]] == ["cam-1", "cam-2"]
        camera = ready["cameras"][1]
        truth = json.loads(_get(camera["truth"]))
        scene = Scene("light", 320, 180, 4, 10, seed=1, place=1)
        assert truth["damages"] == [
            {"label": one.label, "xyxy": list(one.xyxy)} for one in scene.road.damage
        ]
        picture = cv2.imdecode(np.frombuffer(_get(camera["truth_picture"]), np.uint8), 1)
        assert picture is not None
        assert np.array_equal(picture, scene.truth)
        with ClipReader(camera["url"], 4, guard=guard, limits=ReadLimits(samples=5)) as clip:
            frames = list(clip)
        assert np.abs(frames[0].pixels.astype(int) - scene.frame(0)).mean() < 6
    kept = set(tmp_path.iterdir())
    started = time.monotonic()
    with _running(*options) as again:
        assert again["seconds_to_ready"] < time.monotonic() - started
    assert set(tmp_path.iterdir()) == kept


def test_live_is_what_it_does_by_itself(guard: NetGuard) -> None:
    with _running(*_SMALL) as ready:
        assert ready["live"]
        with ClipReader(ready["url"], 3, guard=guard, limits=ReadLimits(samples=5)) as clip:
            assert list(clip)
        assert clip.report.live


def test_any_video_file(
    guard: NetGuard, streams: dict[str, Path], tmp_path: Path, scene: Scene
) -> None:
    video = streams["ts"].parent / "segment00000.ts"
    with _running("--video", str(video), "--vod", "--cache", str(tmp_path)) as ready:
        assert "truth" not in ready["cameras"][0]
        with ClipReader(ready["url"], 1, guard=guard, limits=ReadLimits(samples=2)) as clip:
            assert next(iter(clip)).pixels.shape == (scene.height, scene.width, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "big"], "not of the form"),
        (["--size", "641x360"], "even"),
        (["--variant", "flood"], "invalid choice"),
        (["--rate", "0"], "--rate"),
        (["--video", "/nonexistent.avi"], "nonexistent"),
        (["--video", __file__], "Invalid data"),
        (["--port", "1", "--host", "192.0.2.1"], "Cannot assign"),
    ],
)
def test_an_error_is_one_line(options: list[str], message: str) -> None:
    done = subprocess.run([*_COMMAND, *options], capture_output=True, text=True, check=False)
    assert done.returncode in {1, 2}
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
