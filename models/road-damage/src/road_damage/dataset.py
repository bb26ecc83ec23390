"""Road images and their labels, read once and kept in memory as bytes."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from road_damage.config import CLASS_NAMES

SOURCES = ("rdd2022-china-motorbike", "road-crack-4class")
MAX_REPEAT = 3.0
"""An image of a rare class is shown at most this often in an epoch."""

Image = NDArray[np.uint8]
Boxes = NDArray[np.float32]
Classes = NDArray[np.int64]


@dataclass(frozen=True)
class Sample:
    """One image with its damages.

    Attributes:
        name: Source and file name, unique in the data.
        image: (H, W, 3), RGB.
        boxes: (M, 4), x1, y1, x2, y2 in pixels; M may be 0.
        classes: (M), indices into `CLASS_NAMES`.
    """

    name: str
    image: Image
    boxes: Boxes
    classes: Classes


def read_samples(root: Path, split: str, sources: tuple[str, ...] = SOURCES) -> list[Sample]:
    """Read one split of all sources, in a fixed order.

    The sources' own splits are kept: they are by contiguous blocks of frames, since neighbours
    resemble each other.

    Raises:
        FileNotFoundError: The folder has no images, or an image has no label file.
    """
    samples = []
    for source in sources:
        paths = sorted((root / source / split / "images").glob("*.jpg"))
        if not paths:
            raise FileNotFoundError(f"no images of {source}/{split} below {root}")
        samples += [read_sample(path, f"{source}/{path.name}") for path in paths]
    return samples


def read_sample(path: Path, name: str) -> Sample:
    """Read an image and the label file beside it (`images/x.jpg`, `labels/x.txt`)."""
    image = read_image(path)
    label = path.parent.parent / "labels" / f"{path.stem}.txt"
    boxes, classes = parse_labels(label.read_text(), width=image.shape[1], height=image.shape[0])
    return Sample(name, image, boxes, classes)


def read_image(path: Path) -> Image:
    """Decode a picture to RGB; raises `ValueError` on what is no picture."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"not a readable image: {path}")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_video(path: Path, *, every: int) -> list[Sample]:
    """Every n-th frame of a video that shows no damage; raises `ValueError` if there is none."""
    video = cv2.VideoCapture(str(path))
    samples = []
    number = 0
    while video.grab():
        if number % every == 0:
            _, frame = video.retrieve()
            image = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
            samples.append(
                Sample(f"{path.name}#{number}", image, *parse_labels("", width=1, height=1))
            )
        number += 1
    if not samples:
        raise ValueError(f"no frames in {path}")
    return samples


def parse_labels(text: str, *, width: int, height: int) -> tuple[Boxes, Classes]:
    """YOLO lines (`class x_centre y_centre width height`, relative) -> boxes in pixels.

    Raises:
        ValueError: A line has not five numbers, or a class that is not known.
    """
    rows = [line.split() for line in text.splitlines() if line.strip()]
    if any(len(row) != 5 for row in rows):
        raise ValueError("a label line must have five numbers")
    values = np.array(rows, dtype=np.float32).reshape(-1, 5)
    classes = values[:, 0].astype(np.int64)
    if np.any((classes < 0) | (classes >= len(CLASS_NAMES))):
        raise ValueError(f"unknown class among {sorted(set(classes.tolist()))}")
    centre, half = values[:, 1:3], values[:, 3:5] / 2
    size = np.array([width, height], dtype=np.float32)
    corners = np.concatenate(((centre - half) * size, (centre + half) * size), axis=1)
    return np.clip(corners, 0, np.tile(size, 2)), classes


def fingerprint(samples: list[Sample]) -> str:
    """Digest of names and labels, to notice that a run is resumed on other data."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(sample.name.encode())
        digest.update(sample.boxes.tobytes())
        digest.update(sample.classes.tobytes())
    return digest.hexdigest()


def repeat_factors(samples: list[Sample], threshold: float) -> NDArray[np.float64]:
    """How often each image is to be seen in an epoch (repeat factor sampling, Gupta et al. 2019).

    A class that stands in a share f of the images gives them the factor sqrt(threshold / f), at
    least 1; an image takes the largest factor of its classes.
    """
    present = np.array(
        [[c in sample.classes for c in range(len(CLASS_NAMES))] for sample in samples], dtype=bool
    )
    share = np.maximum(present.mean(axis=0), 1 / len(samples))
    by_class = np.clip(np.sqrt(threshold / share), 1.0, MAX_REPEAT)
    factors: NDArray[np.float64] = np.where(present, by_class, 1.0).max(axis=1)
    return factors


@dataclass(frozen=True)
class EpochOrder:
    """The order of the images as a pure function of the position: resuming needs no state.

    Attributes:
        indices: Indices into the samples, repeats included; each epoch shuffles them.
        seed: Decides the shuffles.
    """

    indices: NDArray[np.int64]
    seed: int

    @classmethod
    def build(cls, samples: list[Sample], *, threshold: float, seed: int) -> "EpochOrder":
        """Repeat images of rare classes; fractions are settled by chance, once per run."""
        factors = repeat_factors(samples, threshold)
        chance = np.random.default_rng([seed, len(samples)]).random(len(samples))
        counts = np.floor(factors + chance).astype(np.int64)
        return cls(np.repeat(np.arange(len(samples)), counts), seed)

    def epoch(self, number: int) -> NDArray[np.int64]:
        """The shuffled indices of one epoch."""
        return np.random.default_rng([self.seed, number]).permutation(self.indices)

    def batch(self, step: int, size: int) -> list[int]:
        """The images of one step, counted from 0; may span two epochs."""
        positions = range(step * size, (step + 1) * size)
        length = len(self.indices)
        epochs = {p // length: self.epoch(p // length) for p in (positions[0], positions[-1])}
        return [int(epochs[p // length][p % length]) for p in positions]
