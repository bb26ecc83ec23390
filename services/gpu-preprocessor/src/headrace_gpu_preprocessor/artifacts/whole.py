"""A set that is whole: what became of a job."""

from dataclasses import dataclass

from headrace_common.artifact_sets import ProcessMeta
from headrace_common.contracts.cctv import ArtifactName, CctvResult, StoredArtifact
from headrace_gpu_preprocessor.artifacts.checkpoints import sha256_of
from headrace_gpu_preprocessor.artifacts.swift import SwiftStore


@dataclass(frozen=True)
class WholeSet:
    """Five artefacts in Swift.

    Attributes:
        store: where they are.
        meta: content of process_meta.json.
        meta_bytes: the file itself.
    """

    store: SwiftStore
    meta: ProcessMeta
    meta_bytes: bytes

    @property
    def folder(self) -> str:
        """Path of the set within the container, with a slash at its end."""
        return self.meta.folder

    def artifacts(self) -> dict[ArtifactName, StoredArtifact]:
        """Return the five as they go on the wire."""
        stored = {
            name: StoredArtifact(object=self.folder + name, **record.model_dump())
            for name, record in self.meta.artifacts.items()
        }
        name = ArtifactName.PROCESS_META
        stored[name] = StoredArtifact(
            object=self.folder + name,
            sha256=sha256_of(self.meta_bytes),
            bytes=len(self.meta_bytes),
            content_type=name.content_type,
        )
        return {name: stored[name] for name in ArtifactName}

    def as_result(self) -> CctvResult:
        """Return the job's result.

        Raises:
            SwiftError: Keystone does not tell where Swift is.
        """
        return CctvResult(
            storage_url=self.store.public_storage_url(),
            container=self.store.container,
            folder=self.folder,
            artifacts=self.artifacts(),
            **self.meta.findings.model_dump(),
        )
