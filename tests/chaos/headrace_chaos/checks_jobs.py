"""Checks on the jobs themselves: none lost, stuck or doubled, each with its own end and result."""

from collections.abc import Iterator
from typing import Final

from headrace_chaos.facts import Facts, JobFact, SetFact
from headrace_chaos.ledger import Promise, Promises
from headrace_chaos.violations import Violation, ViolationKind
from headrace_common.contracts import JobKind, JobStatus

_FINAL: Final = {"completed", "failed", "cancelled"}
#: Why a recording fails that has to: the one fault that the ingest API lets through.
_TOO_SHORT: Final = "audio_too_short"
#: The result has milliseconds.
_DURATION_TOLERANCE_SECONDS: Final = 0.0015


def check_ends(facts: Facts, promises: Promises) -> Iterator[Violation]:
    """Each promised job has a row, and ended as it had to."""
    for promise in promises.jobs.values():
        job = facts.jobs.get(promise.job_id)
        if job is None:
            if not promises.is_excused(promise):
                sentence = f"item {promise.item} was accepted, and there is no row"
                yield Violation(ViolationKind.LOST, promise.job_id, sentence)
            continue
        yield from _end(job, promise)
        if job.run not in promise.runs:
            sentence = f"it is in run {job.run}; asked were {_spoken(promise.runs)}"
            yield Violation(ViolationKind.WRONG_RUN, job.id, sentence)


def check_final(facts: Facts, _promises: Promises) -> Iterator[Violation]:
    """Every job is final, promised or not."""
    for job in facts.jobs.values():
        if job.status not in _FINAL:
            sentence = f"it is still {job.status} at {job.progress} per cent"
            yield Violation(ViolationKind.STUCK, job.id, sentence)


def check_requests(facts: Facts, promises: Promises) -> Iterator[Violation]:
    """No request made two jobs, and nobody has a job that was not asked for."""
    for first, others in promises.rivals.items():
        sentence = f"the same request was answered with {', '.join(sorted(others))} too"
        yield Violation(ViolationKind.DOUBLED_JOB, first, sentence)
    by_content: dict[str, str] = {
        promise.sha256: promise.job_id for promise in promises.jobs.values() if promise.sha256
    }
    unanswered = set(promises.unanswered)
    for job in facts.jobs.values():
        if job.id in promises.jobs or not job.was_accepted:
            continue
        content = str(job.input.get("sha256"))
        if known := {content, str(job.input.get("cctv_id")), job.id} & unanswered:
            unanswered -= known  # one, and no more
            continue
        rival = by_content.get(content)
        sentence = (
            f"nobody was told of it; job {rival} has the same recording"
            if rival
            else ("nobody was told of it")
        )
        yield Violation(ViolationKind.DOUBLED_JOB, job.id, sentence)


def check_results(facts: Facts, promises: Promises) -> Iterator[Violation]:
    """Each completed job has a result, and it is of its own recording or camera."""
    sets = {found.folder: found for found in facts.sets}
    for promise in promises.jobs.values():
        job = facts.jobs.get(promise.job_id)
        if job is None or job.status != JobStatus.COMPLETED:
            continue
        if not job.result:
            yield Violation(ViolationKind.RESULT_MISSING, job.id, "it completed without a result")
        elif job.kind == JobKind.AUDIO_ANALYSIS:
            yield from _audio_result(facts, job, promise)
        else:
            yield from _camera_result(sets, job, promise)


def _end(job: JobFact, promise: Promise) -> Iterator[Violation]:
    if job.status not in _FINAL:
        return
    if JobStatus(job.status) in promise.ends:
        if job.status == JobStatus.FAILED and job.error_code != _TOO_SHORT:
            sentence = f"it failed with {job.error_code}, and had to with {_TOO_SHORT}"
            yield Violation(ViolationKind.WRONG_END, job.id, sentence)
        return
    wanted = " or ".join(sorted(promise.ends))
    why = f" ({job.error_code})" if job.error_code else ""
    deeds = ", ".join(f"{deed.what} {deed.verdict}" for deed in promise.deeds)
    after = f" after {deeds}" if deeds else ""
    sentence = f"it is {job.status}{why}, and had to be {wanted}{after}"
    yield Violation(ViolationKind.WRONG_END, job.id, sentence)


def _audio_result(facts: Facts, job: JobFact, promise: Promise) -> Iterator[Violation]:
    result = job.result or {}
    document = facts.documents.get(job.id)
    if document is None:
        sentence = f"results/{job.id}/analysis.json is not in S3"
        yield Violation(ViolationKind.RESULT_MISSING, job.id, sentence)
        return
    if f"results/{job.id}/plot.png" not in facts.objects:
        sentence = f"results/{job.id}/plot.png is not in S3"
        yield Violation(ViolationKind.RESULT_MISSING, job.id, sentence)
    if document.get("job_id") != job.id:
        sentence = f"its analysis.json is of job {document.get('job_id')}"
        yield Violation(ViolationKind.WRONG_RESULT, job.id, sentence)
    for place, told in (("the row", result), ("analysis.json", document)):
        seconds = told.get("duration_seconds")
        if promise.seconds is None or _is_near(seconds, promise.seconds):
            continue
        sentence = f"{place} says {seconds} s, the recording has {promise.seconds:.3f} s"
        yield Violation(ViolationKind.WRONG_RESULT, job.id, sentence)


def _camera_result(sets: dict[str, SetFact], job: JobFact, promise: Promise) -> Iterator[Violation]:
    folder = str((job.result or {}).get("folder"))
    found = sets.get(folder)
    if found is None or not found.is_whole:
        sentence = f"its result names {folder}, where no whole set is"
        yield Violation(ViolationKind.RESULT_MISSING, job.id, sentence)
    elif (found.camera, found.job_id) != (promise.camera, job.id):
        sentence = f"its result is of camera {found.camera}, job {found.job_id}"
        yield Violation(ViolationKind.WRONG_RESULT, job.id, sentence)


def _is_near(seconds: object, wanted: float) -> bool:
    if not isinstance(seconds, int | float):
        return False
    return abs(seconds - wanted) <= _DURATION_TOLERANCE_SECONDS


def _spoken(runs: range) -> str:
    return str(runs[0]) if len(runs) == 1 else f"{runs[0]} to {runs[-1]}"
