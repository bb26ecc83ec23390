"""The handler that the stream consumer calls, and what it is made of."""

from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Final

import structlog

from headrace_common.artifact_sets import CodeRecord
from headrace_common.contracts.cctv import CctvResult, SettledJob
from headrace_common.errors import HeadraceError
from headrace_gpu_preprocessor.artifacts import ArtifactSets, SwiftStore
from headrace_gpu_preprocessor.artifacts.cameras import SwiftCameraStore
from headrace_gpu_preprocessor.artifacts.connections import Check
from headrace_gpu_preprocessor.background import CameraStore, DirectoryCameraStore
from headrace_gpu_preprocessor.detection.detector import Detector
from headrace_gpu_preprocessor.detection.region import CameraRegions
from headrace_gpu_preprocessor.pipeline.attempt import Attempt, Parts
from headrace_gpu_preprocessor.settings import PreprocessorSettings
from headrace_gpu_preprocessor.stream import LeasedJob
from headrace_gpu_preprocessor.video import DecoderPool

log = structlog.get_logger()

#: A job uses one for a moment; each keeps a connection to Swift.
_ASIDE_THREADS: Final = 2
_CODE: Final = CodeRecord(service="gpu-preprocessor", version=version("headrace-gpu-preprocessor"))


class Pipeline:
    """Does jobs, each in the thread that calls it. Safe for several threads."""

    def __init__(
        self,
        settings: PreprocessorSettings,
        detector: Detector,
        decoders: DecoderPool | None = None,
    ) -> None:
        """Make it; nothing is connected before the first job.

        Args:
            settings: of the service.
            detector: the model.
            decoders: has decoders that are started already, and is closed by its owner.

        Raises:
            BadSettingsError: the cameras' regions cannot be read.
        """
        self._store = SwiftStore(settings)
        self._aside = ThreadPoolExecutor(_ASIDE_THREADS, thread_name_prefix="aside")
        self._parts = Parts(
            settings=settings,
            detector=detector,
            sets=ArtifactSets.of(self._store, settings),
            cameras=_camera_store(settings, self._store),
            regions=CameraRegions(settings.camera_regions_file),
            guard=settings.guard(),
            code=_CODE,
            aside=self._aside,
            decoders=decoders,
        )

    def __call__(self, job: LeasedJob) -> CctvResult:
        """Do one job; errors as `Attempt.run`."""
        try:
            return Attempt(self._parts, job).run()
        finally:
            self._store.release()

    def remove_remains(self, job: SettledJob, check: Check) -> None:
        """Remove what a job that has ended left beside its result.

        Args:
            job: with the folder of its result, if it has one.
            check: called before each removal; raises to prevent it.

        Raises:
            SwiftError: Swift could not be asked, or did not do it.
        """
        try:
            self._parts.sets.remove_remains(job, check=check)
        finally:
            self._store.release()

    def prepare_storage(self) -> None:
        """Make the container, or bring its keys for links up to date; jobs would only make it.

        Swift may be away: then the first job makes the container.
        """
        try:
            self._store.ensure_container()
        except HeadraceError as error:
            log.warning("pipeline.storage_not_prepared", code=error.code, error=error.detail)
        finally:
            self._store.release()

    def check_storage(self) -> None:
        """Check that Swift answers.

        Raises:
            SwiftError: it does not.
        """
        self._store.ping()

    def close(self) -> None:
        """Close every connection."""
        self._aside.shutdown()
        self._store.close()


def _camera_store(settings: PreprocessorSettings, store: SwiftStore) -> CameraStore | None:
    match settings.camera_memory:
        case "swift":
            return SwiftCameraStore(store, prefix=settings.swift_upload_prefix)
        case "directory":
            return DirectoryCameraStore(settings.camera_memory_directory)
        case "off":
            return None
