"""The cameras' memories in Swift, so that all replicas know what a camera showed before."""

import hashlib
from typing import Final

import structlog

from headrace_gpu_preprocessor.artifacts.errors import ObjectTooLargeError, SwiftError
from headrace_gpu_preprocessor.artifacts.metrics import CAMERA_MEMORY
from headrace_gpu_preprocessor.artifacts.swift import SwiftStore
from headrace_gpu_preprocessor.background.memory import CameraMemory, UnreadableMemoryError

log = structlog.get_logger()

#: Below the upload prefix. A camera of this name would have folders here, not such files.
FOLDER: Final = "_cameras/"
_CONTENT_TYPE: Final = "application/octet-stream"
#: Packed; a noisy 4K picture hardly packs.
_MAX_BYTES: Final = 96 * 1024 * 1024


class SwiftCameraStore:
    """One object for each camera, written whole; of two writers the last one counts."""

    def __init__(self, store: SwiftStore, *, prefix: str) -> None:
        """Use a container; `prefix` is SWIFT_UPLOAD_PREFIX."""
        self._store = store
        self._folder = prefix + FOLDER

    def load(self, camera: str) -> CameraMemory | None:
        """Return what is known of a camera; an object that cannot be read counts as nothing.

        Raises:
            SwiftError: Swift could not be asked. To go on without would be to forget: the memory
                saved after the job would have only the new clip in it.
        """
        try:
            data = self._store.get(self._name(camera), most_bytes=_MAX_BYTES)
            memory = None if data is None else CameraMemory.parse(data)
        except (UnreadableMemoryError, ObjectTooLargeError) as error:
            CAMERA_MEMORY.labels(operation="load", outcome="unreadable").inc()
            log.warning("background.memory_unreadable", camera=camera, error=repr(error))
            return None
        except SwiftError:
            CAMERA_MEMORY.labels(operation="load", outcome="failed").inc()
            raise
        CAMERA_MEMORY.labels(operation="load", outcome="ok" if memory else "none").inc()
        return memory

    def save(self, camera: str, memory: CameraMemory) -> None:
        """Keep it. A failure is logged and counted, and costs only this clip's part of it."""
        try:
            self._store.put(self._name(camera), memory.dump(), _CONTENT_TYPE)
        except SwiftError as error:
            CAMERA_MEMORY.labels(operation="save", outcome="failed").inc()
            log.warning("background.memory_not_saved", camera=camera, error=error.code)
            return
        CAMERA_MEMORY.labels(operation="save", outcome="ok").inc()

    def _name(self, camera: str) -> str:
        """Name the object by a hash: the camera's id may be as long as a name may be."""
        return f"{self._folder}{hashlib.sha256(camera.encode()).hexdigest()}.npz"
