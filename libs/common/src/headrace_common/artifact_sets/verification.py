"""Checks a set: every fault is found and named, not only the first.

It reads bytes that anyone may have written: nothing in them is believed before it is checked.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import ValidationError

from headrace_common.artifact_sets.canonical import canonical_json
from headrace_common.artifact_sets.keys import key_id
from headrace_common.artifact_sets.meta import RECORDED, ProcessMeta, Signature, signed_bytes
from headrace_common.contracts.cctv import ArtifactName

_META: Final = ArtifactName.PROCESS_META


class FaultCode(StrEnum):
    """What can be wrong with a set; stable."""

    MISSING = "missing"
    SIZE = "size"
    HASH = "hash"
    #: The set does not list the artefact, so nothing vouches for it.
    NOT_LISTED = "not_listed"
    #: process_meta.json cannot be read.
    MALFORMED = "malformed"
    #: It says the same as a right one in other bytes.
    NOT_CANONICAL = "not_canonical"
    SIGNATURE_MISSING = "signature_missing"
    SIGNATURE_INVALID = "signature_invalid"
    #: Signed by a key that is not among those that are trusted.
    UNKNOWN_KEY = "unknown_key"
    #: A right set, but of another job.
    OTHER_JOB = "other_job"


@dataclass(frozen=True)
class Fault:
    """Something wrong.

    Attributes:
        artifact: with which of the five.
        code: stable, for programs.
        message: for people.
    """

    artifact: ArtifactName
    code: FaultCode
    message: str


@dataclass(frozen=True)
class ArtifactCheck:
    """What came out for one artefact.

    Attributes:
        name: which.
        sha256: of what is there; None if nothing is.
        bytes: its size.
        faults: empty if it is right.
    """

    name: ArtifactName
    sha256: str | None
    bytes: int
    faults: tuple[Fault, ...]

    @property
    def ok(self) -> bool:
        """Whether it is right."""
        return not self.faults


@dataclass(frozen=True)
class VerificationReport:
    """What came out for a set.

    Attributes:
        checks: one for each of the five, in order.
        meta: what process_meta.json says, if it can be read; not to be believed unless `ok`.
    """

    checks: tuple[ArtifactCheck, ...]
    meta: ProcessMeta | None

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Everything wrong."""
        return tuple(fault for check in self.checks for fault in check.faults)

    @property
    def ok(self) -> bool:
        """Whether the set is whole, unchanged, and signed by a key that is trusted."""
        return not self.faults


def verify(
    artifacts: Mapping[str, bytes],
    public_keys: Iterable[Ed25519PublicKey],
    *,
    job_id: str | None = None,
) -> VerificationReport:
    """Check a set.

    Args:
        artifacts: the content of each file by name, process_meta.json among them.
        public_keys: those that are trusted.
        job_id: of the job that the set must be of; None for any.
    """
    faults: list[Fault] = []
    content = _parse(artifacts.get(_META), faults)
    meta = None if content is None else _read(content, faults)
    if content is not None and meta is not None:
        if job_id is not None and meta.job_id != job_id:
            message = f"it is of job {meta.job_id[:200]!r}"
            faults.append(Fault(_META, FaultCode.OTHER_JOB, message))
        _check_signature(content, meta.signature, public_keys, faults)
    for name in RECORDED:
        _check_artifact(name, artifacts.get(name), meta, faults)
    return VerificationReport(
        tuple(_result(name, artifacts, faults) for name in ArtifactName), meta
    )


def _parse(data: bytes | None, faults: list[Fault]) -> dict[str, Any] | None:
    if data is None:
        faults.append(Fault(_META, FaultCode.MISSING, "it is not there: the set is not whole"))
        return None
    try:
        content = json.loads(data)
        canonical = canonical_json(content)
    except (ValueError, RecursionError):
        faults.append(Fault(_META, FaultCode.MALFORMED, "it is not JSON"))
        return None
    if not isinstance(content, dict):
        faults.append(Fault(_META, FaultCode.MALFORMED, "it is not a JSON object"))
        return None
    if canonical != data:
        # Two names for one key, for instance: which one counts would be up to the reader.
        message = "it is not written as canonical JSON"
        faults.append(Fault(_META, FaultCode.NOT_CANONICAL, message))
    return content


def _read(content: dict[str, Any], faults: list[Fault]) -> ProcessMeta | None:
    try:
        return ProcessMeta.model_validate_json(canonical_json(content))
    except ValidationError as error:
        places = {".".join(str(part) for part in each["loc"]) for each in error.errors()}
        message = f"it does not follow its schema at {', '.join(sorted(places))[:200]!r}"
        faults.append(Fault(_META, FaultCode.MALFORMED, message))
        return None


def _check_signature(
    content: dict[str, Any],
    signature: Signature | None,
    public_keys: Iterable[Ed25519PublicKey],
    faults: list[Fault],
) -> None:
    if signature is None:
        faults.append(Fault(_META, FaultCode.SIGNATURE_MISSING, "it is not signed"))
        return
    key = {key_id(each): each for each in public_keys}.get(signature.key_id)
    if key is None:
        message = f"it is signed by key {signature.key_id[:64]!r}, which is not trusted"
        faults.append(Fault(_META, FaultCode.UNKNOWN_KEY, message))
        return
    try:
        key.verify(_signature_bytes(signature.value), signed_bytes(content))
    except (InvalidSignature, ValueError):
        message = "its signature does not fit its content"
        faults.append(Fault(_META, FaultCode.SIGNATURE_INVALID, message))


def _signature_bytes(text: str) -> bytes:
    """Read base64. Its last characters have unused bits: here one signature has one form."""
    value = base64.b64decode(text, validate=True)  # binascii.Error is a ValueError
    if base64.b64encode(value).decode() != text:
        raise ValueError("another form of the same bytes")
    return value


def _check_artifact(
    name: ArtifactName, data: bytes | None, meta: ProcessMeta | None, faults: list[Fault]
) -> None:
    if data is None:
        faults.append(Fault(name, FaultCode.MISSING, "it is not there"))
        return
    record = None if meta is None else meta.artifacts.get(name)
    if record is None:
        message = "process_meta.json does not list it"
        faults.append(Fault(name, FaultCode.NOT_LISTED, message))
        return
    if len(data) != record.bytes:
        message = f"it has {len(data)} bytes, {record.bytes} are recorded"
        faults.append(Fault(name, FaultCode.SIZE, message))
    if (found := hashlib.sha256(data).hexdigest()) != record.sha256:
        message = f"its SHA-256 is {found}, {record.sha256} is recorded"
        faults.append(Fault(name, FaultCode.HASH, message))


def _result(
    name: ArtifactName, artifacts: Mapping[str, bytes], faults: Iterable[Fault]
) -> ArtifactCheck:
    data = artifacts.get(name)
    return ArtifactCheck(
        name=name,
        sha256=None if data is None else hashlib.sha256(data).hexdigest(),
        bytes=0 if data is None else len(data),
        faults=tuple(fault for fault in faults if fault.artifact == name),
    )
