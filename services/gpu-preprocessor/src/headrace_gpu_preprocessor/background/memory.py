"""What each camera showed before: kept on disk, one file for each camera."""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import structlog
from numpy.typing import NDArray

log = structlog.get_logger()

Image = NDArray[np.uint8]

#: Of the files; another version is read as no memory.
_VERSION: Final = 1


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


class CameraStore:
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
        path = self._path(camera)
        try:
            with np.load(path, allow_pickle=False) as file:
                if int(file["version"]) != _VERSION:
                    return None
                return CameraMemory(
                    picture=file["picture"],
                    weight=file["weight"].astype(np.float32) / 255,
                    seen_at=file["seen_at"],
                    changed_at=file["changed_at"],
                )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError) as error:
            log.warning("background.memory_unreadable", camera=camera, error=repr(error))
            return None

    def save(self, camera: str, memory: CameraMemory) -> None:
        """Keep it: written beside, then renamed, so that a crash leaves the old or the new."""
        handle, name = tempfile.mkstemp(dir=self._directory, suffix=".part")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez_compressed(
                    file,
                    version=np.int64(_VERSION),
                    picture=memory.picture,
                    weight=np.rint(memory.weight * 255).astype(np.uint8),
                    seen_at=memory.seen_at,
                    changed_at=memory.changed_at,
                )
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
