"""A set that is being made: each artefact that is stored is a checkpoint.

The artefacts of a folder are never written over. Where another worker's are found in their place,
those that fit are taken as ours; where they do not fit, the folder is left to itself.
decisions/0010-artefact-sets.md says why this is enough.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from headrace_common.artifact_sets import (
    ArtifactRecord,
    ProcessFacts,
    ProcessMeta,
    encode,
    sign,
)
from headrace_common.contracts.cctv import (
    ArtifactName,
    PreprocessEntry,
    job_folder,
    set_timestamp,
)
from headrace_common.errors import HeadraceError
from headrace_gpu_preprocessor.artifacts.checkpoints import (
    CHECKPOINTS,
    LINKED,
    Files,
    check_whole,
    link_in,
    load_checkpoints,
    load_meta,
    md5_of,
    sha256_of,
)
from headrace_gpu_preprocessor.artifacts.connections import Check
from headrace_gpu_preprocessor.artifacts.errors import SetConflictError
from headrace_gpu_preprocessor.artifacts.metrics import SETS
from headrace_gpu_preprocessor.artifacts.remains import folders_of_run, remove_set
from headrace_gpu_preprocessor.artifacts.swift import SwiftStore
from headrace_gpu_preprocessor.artifacts.whole import WholeSet

log = structlog.get_logger()

#: Folders that one attempt leaves to others before it gives way.
_MAX_MOVES: Final = 3
_META: Final = ArtifactName.PROCESS_META


@dataclass(frozen=True)
class Place:
    """Where the sets of a job are, and how they are made.

    Attributes:
        store: the container.
        entry: the job.
        prefix: SWIFT_UPLOAD_PREFIX.
        key: that signs; None for unsigned.
        check: called before each request that changes something; raises if the job is not ours
            any more.
    """

    store: SwiftStore
    entry: PreprocessEntry
    prefix: str
    key: Ed25519PrivateKey | None
    check: Check

    @property
    def root(self) -> str:
        """Path under which all sets of the job are."""
        return job_folder(self.prefix, self.entry.cctv_id, self.entry.job_id)

    def name_of(self, began: datetime) -> str:
        """Return the name of the folder of a set that was begun then."""
        return set_timestamp(began, self.entry.job_run)

    def whole_set(self, folder: str, meta: bytes) -> WholeSet | None:
        """Return the set of which `meta` is the process_meta.json, if it is as that says."""
        public = self.key.public_key() if self.key else None
        told = check_whole(self.store, folder, meta, public, self.entry.job_id)
        return None if told is None else WholeSet(self.store, told, meta)


class UnfinishedSet:
    """A folder with some of the five artefacts. For one thread.

    What is in it is what is stored: after `put` use what `read` returns, which may
    be what another worker had stored before.
    """

    def __init__(self, place: Place, folder: str | None = None, files: Files | None = None) -> None:
        """Begin a new folder, or go on in one with what was found in it."""
        self._place = place
        self._began = datetime.now(UTC)
        self._moves = 0
        self.folder = folder or place.root + place.name_of(self._began) + "/"
        self._files: Files = dict(files or {})

    @property
    def names(self) -> tuple[ArtifactName, ...]:
        """What is there, in order."""
        return tuple(name for name in CHECKPOINTS if name in self._files)

    def __contains__(self, name: ArtifactName) -> bool:
        """Whether an artefact is there."""
        return name in self._files

    def read(self, name: ArtifactName) -> bytes:
        """Return an artefact as it is stored.

        Raises:
            KeyError: it is not there.
        """
        return self._files[name]

    def put(self, name: ArtifactName, data: bytes) -> None:
        """Store an artefact, unless the set has it.

        Args:
            name: one of the first four; in order, each after those before it.
            data: its content. The two JSON documents name the background that they are of: its
                SHA-256, as `picture.sha256`.

        Raises:
            ValueError: its turn has not come, or it is of another background.
            HeadraceError: it could not be stored, or what `check` raised.
        """
        self._require_before(name)
        if name in self._files:
            return
        if name in LINKED and link_in(data) != sha256_of(self._files[ArtifactName.BACKGROUND]):
            raise ValueError(f"{name} must have the background's SHA-256 as picture.sha256")
        self._store(name, data)

    def finish(self, facts: ProcessFacts) -> WholeSet:
        """Write process_meta.json, which makes the set whole, and remove what other attempts left.

        Returns:
            This set, or the one that another worker finished in the same folder, or before.

        Raises:
            ValueError: one of the other four is missing.
            SetConflictError: others changed the set; `find` tells what there is now.
            HeadraceError: it could not be stored, or what `check` raised.
        """
        self._require_before(_META)
        if not self._is_as_kept():
            raise SetConflictError(f"{self.folder} was changed: another worker has this job")
        meta = encode(self._describe(facts))
        self._place.store.put_new(
            self.folder + _META, meta, _META.content_type, check=self._place.check
        )
        stored = load_meta(self._place.store, self.folder)
        if stored != meta:
            return self._adopt(stored, facts)
        if not self._is_as_kept():
            self._withdraw()
        SETS.labels(event="finished").inc()
        log.info("artifacts.set_finished", folder=self.folder)
        own = WholeSet(self._place.store, ProcessMeta.model_validate_json(meta), meta)
        return self._winner(own)

    def _require_before(self, name: ArtifactName) -> None:
        order = list(ArtifactName)
        missing = [each for each in order[: order.index(name)] if each not in self._files]
        if missing:
            raise ValueError(f"{name} before {', '.join(missing)}")

    def _store(self, name: ArtifactName, data: bytes) -> None:
        if self._put(name, data):
            return
        theirs = load_checkpoints(self._place.store, self.folder)
        if name in theirs and all(theirs.get(each) == own for each, own in self._files.items()):
            log.info("artifacts.checkpoint_adopted", folder=self.folder, artifact=name)
            SETS.labels(event="checkpoint_adopted").inc()
            self._files = theirs
            return
        self._move()
        self._store(name, data)

    def _put(self, name: ArtifactName, data: bytes) -> bool:
        """Store an artefact; False if another one is in its place."""
        put = self._place.store.put_new(
            self.folder + name, data, name.content_type, check=self._place.check
        )
        if put.head.md5 != md5_of(data):
            return False
        self._files[name] = data
        return True

    def _move(self) -> None:
        """Leave the folder to others, and store what we have in a new one."""
        self._moves += 1
        SETS.labels(event="moved").inc()
        log.warning("artifacts.folder_left", folder=self.folder)
        self._began = max(datetime.now(UTC), self._began + timedelta(milliseconds=1))
        self.folder = self._place.root + self._place.name_of(self._began) + "/"
        stored = all(self._put(name, data) for name, data in self._files.items())
        if not stored or self._moves > _MAX_MOVES:
            raise SetConflictError(f"others keep changing {self._place.root}")

    def _is_as_kept(self) -> bool:
        """Whether Swift still has what we stored or found, by Swift's own checksum."""
        heads = {name: self._place.store.head(self.folder + name) for name in self._files}
        return all(
            head is not None and head.md5 == md5_of(self._files[name])
            for name, head in heads.items()
        )

    def _describe(self, facts: ProcessFacts) -> ProcessMeta:
        meta = ProcessMeta(
            **dict(facts),
            job_id=self._place.entry.job_id,
            cctv_id=self._place.entry.cctv_id,
            folder=self.folder,
            timestamp=self.folder.rstrip("/").rpartition("/")[2],
            artifacts={
                name: ArtifactRecord(
                    sha256=sha256_of(data), bytes=len(data), content_type=name.content_type
                )
                for name, data in self._files.items()
            },
            created_at=datetime.now(UTC),
        )
        return sign(meta, self._place.key) if self._place.key else meta

    def _adopt(self, stored: bytes | None, facts: ProcessFacts) -> WholeSet:
        """Another process_meta.json is in our folder: take that set, or go elsewhere."""
        theirs = None if stored is None else self._place.whole_set(self.folder, stored)
        if theirs is not None:
            SETS.labels(event="adopted").inc()
            log.info("artifacts.set_adopted", folder=self.folder)
            return theirs
        self._move()
        return self.finish(facts)

    def _withdraw(self) -> None:
        """Take process_meta.json back: the four were changed while it was written.

        It is our own, and wrong: nobody's leave is asked.
        """
        self._place.store.delete(self.folder + _META)
        SETS.labels(event="withdrawn").inc()
        raise SetConflictError(f"{self.folder} was changed while it was finished")

    def _winner(self, own: WholeSet) -> WholeSet:
        """Return the older set of this run that is whole, or our own; remove what is unfinished.

        Who was taken for dead may have finished before us. Ours was told to nobody yet, so that
        it can go. A younger one is somebody else's matter: it may be the job's result. What stays
        is removed some time after the job's end, when its result is certain.
        """
        place, store = self._place, self._place.store
        try:
            for folder in folders_of_run(store, place.root, place.entry.job_run):
                if folder == self.folder:
                    continue
                meta = load_meta(store, folder)
                if meta is None:
                    remove_set(store, folder, whole=False, check=place.check)
                elif folder < self.folder and (theirs := place.whole_set(folder, meta)):
                    remove_set(store, self.folder, whole=True, check=place.check)
                    SETS.labels(event="adopted").inc()
                    return theirs
        except HeadraceError as error:
            log.warning("artifacts.leftovers_remain", folder=place.root, error=error.code)
        return own
