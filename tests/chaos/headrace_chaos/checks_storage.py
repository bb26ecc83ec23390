"""Checks on S3 and Swift: what must be there is, as it was sent; and nothing else is."""

import hashlib
from collections.abc import Iterator
from typing import Final

from headrace_chaos.facts import Facts, JobFact, SetFact
from headrace_chaos.ledger import Promise, Promises
from headrace_chaos.violations import Violation, ViolationKind
from headrace_common.contracts import JobKind
from headrace_common.contracts.analysis import SHADOW_SUFFIX
from headrace_common.storage import S3Location

_RECORDINGS: Final = "audio/"
_RESULTS: Final = "results/"
_CAMERA_MEMORY: Final = "_cameras/"


def check_recordings(facts: Facts, promises: Promises) -> Iterator[Violation]:
    """Each promised recording is in S3, once, with the bytes that were sent."""
    stored: dict[str, list[str]] = {}
    for key in facts.objects:
        if key.startswith(_RECORDINGS):
            job_id = key.rpartition("/")[2].partition(".")[0]
            stored.setdefault(job_id, []).append(key)
    for job_id, keys in stored.items():
        if len(keys) > 1:
            sentence = f"its recording is stored as {', '.join(sorted(keys))}"
            yield Violation(ViolationKind.DOUBLED_RECORDING, job_id, sentence)
    for promise in promises.jobs.values():
        job = facts.jobs.get(promise.job_id)
        if job is not None and promise.kind is JobKind.AUDIO_ANALYSIS:
            yield from _recording(facts, job, promise)


def check_objects(facts: Facts, _promises: Promises) -> Iterator[Violation]:
    """Nothing is in S3 that no accepted job and no token names."""
    named = {
        key
        for job in facts.jobs.values()
        if job.was_accepted and (key := _recording_key(job)) is not None
    }
    accepted = {job.id for job in facts.jobs.values() if job.was_accepted}
    for key in facts.objects:
        if key in named or key in facts.references or _result_of(key) in accepted:
            continue
        yield Violation(ViolationKind.ORPHAN_OBJECT, "", f"{key} is of no accepted job")
    for key, upload_id in facts.multiparts:
        sentence = f"upload {upload_id[:12]} of {key} was never ended"
        yield Violation(ViolationKind.ORPHAN_MULTIPART, "", sentence)


def check_direct(facts: Facts, _promises: Promises) -> Iterator[Violation]:
    """No direct upload is open whose job ended, or whose time is over."""
    for upload in facts.direct:
        job = facts.jobs.get(upload.job_id)
        ended = job is None or job.status in {"failed", "cancelled"} or upload.expired
        if ended and not (upload.completed or upload.aborted):
            sentence = f"its upload of {upload.key} is neither completed nor aborted"
            yield Violation(ViolationKind.DIRECT_UPLOAD_OPEN, upload.job_id, sentence)


def check_sets(facts: Facts, promises: Promises) -> Iterator[Violation]:
    """Each set in Swift is whole, of a job, and the only one of its run."""
    by_job: dict[str, list[SetFact]] = {}
    for found in facts.sets:
        by_job.setdefault(found.job_id, []).append(found)
        yield from _set(facts, found)
    for job_id, sets in by_job.items():
        job = facts.jobs.get(job_id)
        whole = [found.folder for found in sets if found.is_whole]
        if job is not None and len(whole) > job.run:
            sentence = f"{job.run} run left {len(whole)} whole sets: {', '.join(sorted(whole))}"
            yield Violation(ViolationKind.DOUBLED_SET, job_id, sentence)
    cameras = {str(job.input.get("cctv_id")) for job in facts.jobs.values()}
    memories = {hashlib.sha256(camera.encode()).hexdigest() for camera in cameras}
    for path in facts.strays:
        name = path.rpartition(_CAMERA_MEMORY)[2].removesuffix(".npz")
        if _CAMERA_MEMORY not in path or name not in memories:
            yield Violation(ViolationKind.ORPHAN_ARTIFACT, "", f"{path} is of no set")


def _recording(facts: Facts, job: JobFact, promise: Promise) -> Iterator[Violation]:
    key = _recording_key(job)
    stored = facts.objects.get(key or "")
    if stored is None:
        yield Violation(ViolationKind.RECORDING_DAMAGED, job.id, f"{key} is not in S3")
    elif "-" not in stored.etag and promise.md5 not in (None, stored.etag):
        # One sent in parts has another kind of ETag.
        sentence = f"{key} has other bytes than were sent"
        yield Violation(ViolationKind.RECORDING_DAMAGED, job.id, sentence)
    if promise.sha256 not in (None, job.input.get("sha256")):
        sentence = "the SHA-256 in its row is not that of what was sent"
        yield Violation(ViolationKind.RECORDING_DAMAGED, job.id, sentence)


def _set(facts: Facts, found: SetFact) -> Iterator[Violation]:
    if found.job_id not in facts.jobs:
        sentence = f"{found.folder} is of no job that there is"
        yield Violation(ViolationKind.ORPHAN_ARTIFACT, found.job_id, sentence)
    elif found.report is None:
        sentence = f"{found.folder} has only {', '.join(sorted(found.names))}"
        yield Violation(ViolationKind.ORPHAN_ARTIFACT, found.job_id, sentence)
    elif not found.report.ok:
        faults = "; ".join(f"{fault.artifact}: {fault.message}" for fault in found.report.faults)
        sentence = f"{found.folder}: {faults}"
        yield Violation(ViolationKind.SET_NOT_WHOLE, found.job_id, sentence)


def _recording_key(job: JobFact) -> str | None:
    url = job.input.get("s3_audio_url")
    return S3Location.parse(url).key if isinstance(url, str) else None


def _result_of(key: str) -> str | None:
    """Return the job whose result an object is; a shadow's is its job's."""
    if not key.startswith(_RESULTS):
        return None
    return key.removeprefix(_RESULTS).partition("/")[0].removesuffix(SHADOW_SUFFIX)
