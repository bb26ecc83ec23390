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

from headrace_common.contracts.regions import Polygons, RegionError, read_polygons
from headrace_common.settings import BadSettingsError

log = structlog.get_logger()

Mask = NDArray[np.bool_]

#: The entry of the file for cameras that have none of their own.
DEFAULT_CAMERA: Final = "*"
_MAX_FILE_BYTES: Final = 16 * 1024 * 1024
#: OpenCV draws with fractions of a pixel: 4 bits of them.
_FRACTION_BITS: Final = 4


@dataclass(frozen=True)
class Region:
    """The road in a picture: what lies in any of the polygons.

    Attributes:
        polygons: points x, y from 0 to 1, from the upper left corner.
    """

    polygons: Polygons

    @classmethod
    def parse(cls, value: Any) -> Self:
        """Read it from JSON: a list of polygons, each a list of [x, y].

        Raises:
            RegionError: it is none.
        """
        return cls(read_polygons(value))

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
