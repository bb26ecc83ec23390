"""What each camera showed before: one file for each camera, on disk or in another store."""

import hashlib
import io
import math
import os
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

Number = TypeVar("Number", np.uint8, np.uint32)

#: Of the files; another version is read as no memory.
_VERSION: Final = 1
#: A picture of 4K with its maps takes 12 bytes for a pixel.
_MAX_UNPACKED_BYTES: Final = 128 * 1024 * 1024
#: What reading a broken or hostile archive raises; MemoryError for a size that it claims.
_UNREADABLE: Final = (
    *(ValueError, KeyError, EOFError, OSError, MemoryError, OverflowError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error, RuntimeError),
)


class UnreadableMemoryError(Exception):
    """A file is no camera's memory."""


@dataclass(frozen=True)
class CameraMemory:
    """The last good background of a camera.

    Attributes:
        picture: BGR.
        weight: how sure each pixel was when it was last seen, 0 to 1.
        seen_at: when that was, seconds since 1970.
        changed_at: since when clips show something else there for sure; 0 for not at all.
    """

    picture: Image
    weight: NDArray[np.float32]
    seen_at: NDArray[np.uint32]
    changed_at: NDArray[np.uint32]

    def __post_init__(self) -> None:
        """Check that the maps have the picture's size.

        Raises:
            ValueError: they do not.
        """
        size = self.picture.shape[:2]
        maps = (self.weight, self.seen_at, self.changed_at)
        if self.picture.shape[2:] != (3,) or any(each.shape != size for each in maps):
            raise ValueError("the memory's maps are not of one size")

    def dump(self) -> bytes:
        """Return the memory as a file, as `numpy.savez_compressed` would, in a third of the time.

        Noise hardly compresses: the fastest level leaves 5 % more bytes than the usual one.
        """
        arrays: dict[str, NDArray[Any]] = {
            "version": np.asarray(_VERSION, np.int64),
            "picture": self.picture,
            "weight": np.rint(self.weight * 255).astype(np.uint8),
            "seen_at": self.seen_at,
            "changed_at": self.changed_at,
        }
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w") as file:
                    np.lib.format.write_array(file, array, version=(1, 0), allow_pickle=False)
        return data.getvalue()

    @classmethod
    def parse(cls, data: bytes) -> "CameraMemory | None":
        """Read what `dump` wrote; None if another version wrote it.

        Raises:
            UnreadableMemoryError: it is anything else, or larger than any camera's memory.
        """
        try:
            _check_sizes(data)
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                if file["version"].item() != _VERSION:
                    return None
                return cls(
                    picture=_typed(file["picture"], np.uint8),
                    weight=_typed(file["weight"], np.uint8).astype(np.float32) / np.float32(255),
                    seen_at=_typed(file["seen_at"], np.uint32),
                    changed_at=_typed(file["changed_at"], np.uint32),
                )
        except _UNREADABLE as error:
            raise UnreadableMemoryError(repr(error)) from error


class CameraStore(Protocol):
    """Keeps memories, for several threads."""

    def load(self, camera: str) -> CameraMemory | None:
        """Return what is known of a camera; a file that cannot be read counts as nothing."""

    def save(self, camera: str, memory: CameraMemory) -> None:
        """Keep what is known of a camera in place of what was: the last one counts."""


class DirectoryCameraStore:
    """Memories in a directory. Several processes may use it: a file is replaced as a whole."""

    def __init__(self, directory: Path, *, most_cameras: int = 1000) -> None:
        """Use a directory, which is made if missing.

        Args:
            directory: for the files.
            most_cameras: beyond these, the one that was not seen for longest is forgotten.
        """
        self._directory = directory
        self._most = most_cameras
        directory.mkdir(parents=True, exist_ok=True)

    def load(self, camera: str) -> CameraMemory | None:
        """Return what is known of a camera; a file that cannot be read counts as nothing."""
        try:
            return CameraMemory.parse(self._path(camera).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, UnreadableMemoryError) as error:
            # Late: the environment that torch is tested in has the numbers' packages only.
            import structlog  # noqa: PLC0415

            structlog.get_logger().warning(
                "background.memory_unreadable", camera=camera, error=repr(error)
            )
            return None

    def save(self, camera: str, memory: CameraMemory) -> None:
        """Keep it: written beside, then renamed, so that a crash leaves the old or the new."""
        handle, name = tempfile.mkstemp(dir=self._directory, suffix=".part")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(memory.dump())
            temporary.replace(self._path(camera))
        finally:
            temporary.unlink(missing_ok=True)
        self._forget()

    def _path(self, camera: str) -> Path:
        """Name the file by a hash: the camera's id comes from outside."""
        return self._directory / f"{hashlib.sha256(camera.encode()).hexdigest()[:32]}.npz"

    def _forget(self) -> None:
        files = sorted(self._directory.glob("*.npz"), key=lambda path: path.stat().st_mtime)
        for path in files[: max(0, len(files) - self._most)]:
            path.unlink(missing_ok=True)


def _check_sizes(data: bytes) -> None:
    """Look at the sizes that the archive tells before anything is unpacked.

    Raises:
        ValueError: it would be more than the memory of the largest picture, or an array says that
            it is larger than it is: NumPy would make room for it first.
    """
    size = 0
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for part in archive.infolist():
            with archive.open(part) as file:
                np.lib.format.read_magic(file)
                shape, _, kind = np.lib.format.read_array_header_1_0(file)
            size += max(part.file_size, math.prod(shape) * kind.itemsize)
    if size > _MAX_UNPACKED_BYTES:
        raise ValueError(f"{size} bytes unpacked")


def _typed(array: NDArray[Any], kind: type[Number]) -> NDArray[Number]:
    if array.dtype != kind:
        raise ValueError(f"numbers of type {array.dtype}")
    return array
