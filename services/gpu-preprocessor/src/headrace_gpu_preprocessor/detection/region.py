"""Where the road is in each camera's picture: polygons, in shares of its width and height."""

import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import cv2
import numpy as np
import structlog
from numpy.typing import NDArray

from headrace_common.settings import BadSettingsError

log = structlog.get_logger()

Point = tuple[float, float]
Polygon = tuple[Point, ...]
Mask = NDArray[np.bool_]

#: The entry of the file for cameras that have none of their own.
DEFAULT_CAMERA: Final = "*"
MAX_POLYGONS: Final = 32
MAX_POINTS: Final = 200
_MAX_FILE_BYTES: Final = 16 * 1024 * 1024
#: Characters of a faulty point that are repeated.
_LONGEST_SHOWN: Final = 100
#: OpenCV draws with fractions of a pixel: 4 bits of them.
_FRACTION_BITS: Final = 4


class RegionError(ValueError):
    """A region that is none; the message says why."""


@dataclass(frozen=True)
class Region:
    """The road in a picture: what lies in any of the polygons.

    Attributes:
        polygons: points x, y from 0 to 1, from the upper left corner.
    """

    polygons: tuple[Polygon, ...]

    @classmethod
    def parse(cls, value: Any) -> Self:
        """Read it from JSON: a list of polygons, each a list of [x, y].

        Raises:
            RegionError: it is none.
        """
        if not isinstance(value, list) or not 0 < len(value) <= MAX_POLYGONS:
            raise RegionError(f"must be a list of 1 to {MAX_POLYGONS} polygons")
        return cls(tuple(_polygon(number, points) for number, points in enumerate(value)))

    def mask(self, width: int, height: int) -> Mask:
        """Return where the road is in a picture of this size."""
        mask = np.zeros((height, width), np.uint8)
        # A polygon's coordinates are those of pixel edges, OpenCV's of pixel centres.
        size, half = np.array([width, height]), 0.5
        for polygon in self.polygons:
            corners = (np.array(polygon) * size - half) * (1 << _FRACTION_BITS)
            points = np.rint(corners).astype(np.int32)
            # One by one: drawn together, polygons that overlap would cancel.
            cv2.fillPoly(mask, [points], 1, cv2.LINE_8, _FRACTION_BITS)
        return mask.astype(bool)

    def as_json(self) -> list[list[list[float]]]:
        """Return what `parse` reads."""
        return [[list(point) for point in polygon] for polygon in self.polygons]


def _polygon(number: int, points: Any) -> Polygon:
    if not isinstance(points, list) or not 3 <= len(points) <= MAX_POINTS:
        raise RegionError(f"polygon {number}: needs 3 to {MAX_POINTS} points")
    polygon = tuple(_point(number, point) for point in points)
    if abs(_area(polygon)) < 1e-6:
        raise RegionError(f"polygon {number}: has no area")
    return polygon


def _point(number: int, point: Any) -> Point:
    if not isinstance(point, list) or len(point) != 2:
        raise RegionError(f"polygon {number}: a point must be [x, y]")
    if not all(_is_share(value) for value in point):
        raise RegionError(f"polygon {number}: {_shown(point)} is not within 0 to 1")
    return float(point[0]), float(point[1])


def _is_share(value: Any) -> bool:
    """Whether a value is a number from 0 to 1; JSON's true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _shown(point: Any) -> str:
    """Return what was given, shortened; Python refuses to write very long integers out."""
    try:
        return repr(point)[:_LONGEST_SHOWN]
    except ValueError:
        return "a point"


def _area(polygon: Polygon) -> float:
    """Return the area by the shoelace formula, with a sign."""
    following = (*polygon[1:], polygon[0])
    pairs = zip(polygon, following, strict=True)
    return sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in pairs) / 2


class CameraRegions:
    """The regions of all cameras, as CAMERA_REGIONS_FILE has them at the moment.

    The file is read again when it has changed. If it cannot be read then, what it said before
    stays, and the log says why: cameras must not go blind by a slip of the pen.
    """

    def __init__(self, path: Path | None) -> None:
        """Read the file.

        Args:
            path: None for no regions at all.

        Raises:
            BadSettingsError: it cannot be read, or has a region that is none.
        """
        self._path = path
        self._lock = threading.Lock()
        self._regions: dict[str, Region] = {}
        self._version: tuple[int, ...] | None = None
        if path is not None:
            try:
                self._version = _version(path)
                self._regions = read_regions(path)
            except (OSError, RegionError) as error:
                raise BadSettingsError(f"bad settings:\n  CAMERA_REGIONS_FILE: {error}") from error

    def of(self, cctv_id: str) -> Region | None:
        """Return a camera's region: its own, or the default; None for the whole picture."""
        with self._lock:
            self._refresh()
            return self._regions.get(cctv_id) or self._regions.get(DEFAULT_CAMERA)

    def _refresh(self) -> None:
        if self._path is None:
            return
        try:
            version = _version(self._path)
            if version == self._version:
                return
            regions = read_regions(self._path)
        except (OSError, RegionError) as error:
            log.warning("detection.regions_kept", file=self._path.name, error=str(error)[:500])
            return
        self._version, self._regions = version, regions
        log.info("detection.regions_read", cameras=len(regions))


def read_regions(path: Path) -> dict[str, Region]:
    """Read a file of regions: `{cctvId: [[[x, y], ...], ...], "*": ...}`.

    Raises:
        OSError: it cannot be read.
        RegionError: it is no such file; the message names camera and polygon.
    """
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise RegionError(f"{path.name} has more than {_MAX_FILE_BYTES} bytes")
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise RegionError(f"{path.name} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise RegionError(f"{path.name} must be an object: camera to polygons")
    regions = {}
    for camera, value in found.items():
        try:
            regions[camera] = Region.parse(value)
        except RegionError as error:
            raise RegionError(f"{path.name}, camera {camera!r}: {error}") from error
    return regions


def _version(path: Path) -> tuple[int, ...]:
    """Return what changes with the file; a mounted ConfigMap is exchanged by its inode."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino
