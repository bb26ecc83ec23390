"""What is already there of a set: read back, checked, and only then believed."""

import hashlib
import json
from typing import Final

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from headrace_common.artifact_sets import FaultCode, ProcessMeta, verify
from headrace_common.contracts.cctv import ArtifactName
from headrace_gpu_preprocessor.artifacts.errors import ObjectTooLargeError
from headrace_gpu_preprocessor.artifacts.swift import MAX_OBJECT_BYTES, SwiftStore

log = structlog.get_logger()

#: The JSON documents that name the background.jpg which they are of, as `picture.sha256`.
LINKED: Final = frozenset({ArtifactName.BACKGROUND_META, ArtifactName.DAMAGE_ANALYSIS})
#: The artefacts in the order they are made; each is a checkpoint.
CHECKPOINTS: Final = tuple(name for name in ArtifactName if name is not ArtifactName.PROCESS_META)
#: Most bytes of process_meta.json: it holds figures only.
_MAX_META_BYTES: Final = 4 * 1024 * 1024
#: Faults of a set that is whole all the same: it may be older than the key.
_FORGIVEN: Final = frozenset({FaultCode.SIGNATURE_MISSING, FaultCode.UNKNOWN_KEY})

Files = dict[ArtifactName, bytes]


def link_in(data: bytes) -> str | None:
    """Return the SHA-256 of the background that a document is of; None if it names none."""
    try:
        link = json.loads(data)["picture"]["sha256"]
    except (ValueError, RecursionError, LookupError, TypeError):
        return None
    return link if isinstance(link, str) else None


def load_checkpoints(store: SwiftStore, folder: str) -> Files:
    """Return what of a folder can be built upon, in order, with nothing missing between.

    A background without its description, or with that of another, is nothing.
    """
    files: Files = {}
    for document, picture in (
        (ArtifactName.BACKGROUND_META, ArtifactName.BACKGROUND),
        (ArtifactName.DAMAGE_ANALYSIS, ArtifactName.DAMAGE_RESULT),
    ):
        found = {name: _get(store, folder + name) for name in (document, picture)}
        told = found[document]
        background = files.get(ArtifactName.BACKGROUND) or found[picture]
        if told is None or background is None or link_in(told) != sha256_of(background):
            break
        files |= {name: data for name, data in found.items() if data is not None}
    return {name: files[name] for name in CHECKPOINTS if name in files}


def load_meta(store: SwiftStore, folder: str) -> bytes | None:
    """Return a folder's process_meta.json as it is, one that is too large as empty; else None."""
    return _get(store, folder + ArtifactName.PROCESS_META, _MAX_META_BYTES)


def check_whole(
    store: SwiftStore, folder: str, meta: bytes, key: Ed25519PublicKey | None, job_id: str
) -> ProcessMeta | None:
    """Return what a set's process_meta.json says if the set is as it says; else None."""
    found = {name: _get(store, folder + name) for name in CHECKPOINTS}
    files: dict[str, bytes] = {name: data for name, data in found.items() if data is not None}
    files[ArtifactName.PROCESS_META] = meta
    report = verify(files, [key] if key else [], job_id=job_id)
    faulty = any(fault.code not in _FORGIVEN for fault in report.faults)
    if faulty or report.meta is None or report.meta.folder != folder:
        return None
    return report.meta


def sha256_of(data: bytes) -> str:
    """Return a content's SHA-256, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def md5_of(data: bytes) -> str:
    """Return a content's MD5 as Swift has it in the ETag."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _get(store: SwiftStore, name: str, most_bytes: int = MAX_OBJECT_BYTES) -> bytes | None:
    """Return an object; what is too large to be ours counts as an empty one."""
    try:
        return store.get(name, most_bytes=most_bytes)
    except ObjectTooLargeError as error:
        log.warning("artifacts.object_too_large", object=name, error=error.detail)
        return b""
