"""The sets of artefacts of jobs: found again, or begun."""

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from headrace_common.contracts.cctv import PreprocessEntry, SettledJob
from headrace_gpu_preprocessor.artifacts.checkpoints import load_checkpoints, load_meta
from headrace_gpu_preprocessor.artifacts.connections import Check
from headrace_gpu_preprocessor.artifacts.metrics import SETS
from headrace_gpu_preprocessor.artifacts.remains import folders_of_run, remove_remains
from headrace_gpu_preprocessor.artifacts.settings import SwiftSettings
from headrace_gpu_preprocessor.artifacts.swift import SwiftStore
from headrace_gpu_preprocessor.artifacts.unfinished import Place, UnfinishedSet
from headrace_gpu_preprocessor.artifacts.whole import WholeSet

log = structlog.get_logger()


class ArtifactSets:
    """Sets of all jobs. Safe for several threads; a set is for one."""

    def __init__(
        self, store: SwiftStore, *, prefix: str, signing_key: Ed25519PrivateKey | None = None
    ) -> None:
        """Use a container.

        Args:
            store: the container.
            prefix: SWIFT_UPLOAD_PREFIX.
            signing_key: signs process_meta.json; None leaves it unsigned.
        """
        self._store = store
        self._prefix = prefix
        self._key = signing_key

    @classmethod
    def of(cls, store: SwiftStore, settings: SwiftSettings) -> "ArtifactSets":
        """Make it by the settings."""
        return cls(store, prefix=settings.swift_upload_prefix, signing_key=settings.signing_key())

    def find(self, entry: PreprocessEntry, *, check: Check) -> WholeSet | UnfinishedSet | None:
        """Return what there is of a job's run: its whole set, else the latest to go on with.

        Args:
            entry: the job.
            check: called before each request that changes something; raises if the job is not
                ours any more.

        Raises:
            SwiftError: Swift could not be asked.
        """
        place = self._place(entry, check)
        unfinished: list[str] = []
        for folder in folders_of_run(self._store, place.root, entry.job_run):
            # The object is asked for, not the listing, which lags behind.
            meta = load_meta(self._store, folder)
            if meta is None:
                unfinished.append(folder)
                continue
            if (whole := place.whole_set(folder, meta)) is not None:
                SETS.labels(event="found_whole").inc()
                return whole
            SETS.labels(event="found_broken").inc()
            log.error("artifacts.set_broken", folder=folder)
        for folder in reversed(unfinished):
            if files := load_checkpoints(self._store, folder):
                SETS.labels(event="resumed").inc()
                log.info("artifacts.set_resumed", folder=folder, artifacts=[*files])
                return UnfinishedSet(place, folder, files)
        return None

    def begin(self, entry: PreprocessEntry, *, check: Check) -> UnfinishedSet:
        """Begin a new set; nothing is stored before its first artefact. `check` as in `find`."""
        SETS.labels(event="begun").inc()
        return UnfinishedSet(self._place(entry, check))

    def remove_remains(self, job: SettledJob, *, check: Check) -> None:
        """Remove what a job that has ended left beside its result; see `remains`."""
        remove_remains(self._store, self._prefix, job, check=check)

    def _place(self, entry: PreprocessEntry, check: Check) -> Place:
        return Place(self._store, entry, self._prefix, self._key, check)
