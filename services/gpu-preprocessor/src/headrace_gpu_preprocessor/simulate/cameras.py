"""Cameras to serve: their streams, rendered or taken from a video file once and kept in a cache."""

import hashlib
import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import cv2

from headrace_gpu_preprocessor.simulate.hls import read_video, write_hls
from headrace_gpu_preprocessor.simulate.scene import Scene

PLAYLIST: Final = "index.m3u8"
#: Of what is rendered; another version is rendered again.
_VERSION: Final = 2


@dataclass(frozen=True)
class Camera:
    """One camera's stream on disk.

    Attributes:
        name: `cam-1` and so on.
        playlist: VOD; live is made from it while serving.
        has_truth: whether `truth.png` and `truth.json` lie beside it.
    """

    name: str
    playlist: Path
    has_truth: bool


def rendered(name: str, scene: Scene, cache: Path) -> Camera:
    """Return a camera that looks at a rendered road, with its truth beside."""
    key = {"version": _VERSION, **asdict(scene)}
    directory = _directory(cache, key)
    if not (directory / PLAYLIST).is_file():
        part = Path(tempfile.mkdtemp(dir=cache))
        write_hls(scene.frames(), scene.rate, part)
        cv2.imwrite(str(part / "truth.png"), scene.truth)
        (part / "truth.json").write_text(_truth(scene), encoding="utf-8")
        _keep(part, directory)
    return Camera(name, directory / PLAYLIST, has_truth=True)


def filmed(name: str, video: Path, seconds: float, cache: Path) -> Camera:
    """Return a camera that shows a video file, which is trusted.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a video.
    """
    found = video.stat()
    key = {"version": _VERSION, "video": str(video.resolve()), "size": found.st_size}
    directory = _directory(cache, key | {"changed": found.st_mtime_ns, "seconds": seconds})
    if not (directory / PLAYLIST).is_file():
        part = Path(tempfile.mkdtemp(dir=cache))
        rate, frames = read_video(video, seconds=seconds)
        write_hls(frames, rate, part)
        _keep(part, directory)
    return Camera(name, directory / PLAYLIST, has_truth=False)


def _truth(scene: Scene) -> str:
    damages = [{"label": one.label, "xyxy": list(one.xyxy)} for one in scene.road.damage]
    return json.dumps(asdict(scene) | {"damages": damages}, indent=2)


def _directory(cache: Path, key: dict[str, object]) -> Path:
    cache.mkdir(parents=True, exist_ok=True)
    return cache / hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]


def _keep(part: Path, directory: Path) -> None:
    """Give it its name as a whole; somebody else may have been faster."""
    try:
        part.rename(directory)
    except OSError:
        shutil.rmtree(part)
        if not (directory / PLAYLIST).is_file():
            raise
