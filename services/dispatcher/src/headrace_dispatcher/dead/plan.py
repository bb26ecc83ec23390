"""What a replay does with a letter: pure decisions."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from headrace_common.contracts.analysis import SHADOW_SUFFIX
from headrace_common.contracts.jobs import JobStatus
from headrace_common.db import Job
from headrace_dispatcher.dead.letter import Kind


class Action(StrEnum):
    """What is done."""

    #: The job that failed begins anew, in its next run.
    RESTART = "restart"
    #: The job, which is open, gets a new message.
    REQUEUE = "requeue"
    #: An analysis server is asked once more.
    ASK_AGAIN = "ask_again"
    #: The letter goes back to where it was to be worked off, as it was.
    SEND_AGAIN = "send_again"
    #: The report in the inbox is applied, from its first attempt.
    APPLY_AGAIN = "apply_again"
    #: There is nothing to do any more.
    OBSOLETE = "obsolete"


#: Plans of these need the job's row locked, because they change it.
CHANGES_JOB: Final = frozenset({Action.RESTART, Action.REQUEUE})


@dataclass(frozen=True)
class JobFacts:
    """What a plan depends on of a job; there may be none with the letter's id.

    Attributes:
        accepted: False for one that ended while it was uploading.
    """

    status: JobStatus
    run: int
    accepted: bool = True

    @classmethod
    def of(cls, status: str, run: int, *, discarded: bool) -> "JobFacts":
        """Read what a row has in these columns."""
        accepted = not discarded and status != JobStatus.UPLOADING
        return cls(JobStatus(status), run, accepted)

    @classmethod
    def of_row(cls, job: Job | None) -> "JobFacts | None":
        """Read a row; None where there is none."""
        if job is None:
            return None
        return cls.of(job.status, job.run, discarded=job.discard_at is not None)


@dataclass(frozen=True)
class LetterFacts:
    """What a plan depends on of a letter.

    Attributes:
        names_job: whether it tells of which job it is.
        is_shadow: it is a copy that is only compared.
    """

    kind: Kind
    run: int | None = None
    names_job: bool = True
    is_shadow: bool = False

    @classmethod
    def of(cls, kind: str, job_id: str | None, run: int | None) -> "LetterFacts":
        """Read a row."""
        is_shadow = job_id is not None and job_id.endswith(SHADOW_SUFFIX)
        return cls(Kind(kind), run, job_id is not None, is_shadow)


@dataclass(frozen=True)
class Plan:
    """What is done, and why, for people."""

    action: Action
    reason: str

    @property
    def is_obsolete(self) -> bool:
        """Whether nothing is done."""
        return self.action is Action.OBSOLETE


_DONE: Final = frozenset({JobStatus.COMPLETED, JobStatus.CANCELLED})
_ON_THE_LANE: Final = frozenset({JobStatus.QUEUING, JobStatus.QUEUED, JobStatus.PROCESSING})


def plan_replay(letter: LetterFacts, job: JobFacts | None) -> Plan:
    """Decide what a replay of a letter does, as its job is now."""
    if letter.kind is Kind.INBOX_REPORT:
        return Plan(Action.APPLY_AGAIN, "the results service applies the report again")
    if letter.kind in {Kind.APPLY_REPORT, Kind.MESSAGE}:
        return Plan(Action.SEND_AGAIN, "the message goes back to its queue")
    if letter.is_shadow:
        return Plan(Action.OBSOLETE, "it was a copy that is only compared")
    if letter.kind in {Kind.ANALYSIS_REPORT, Kind.STREAM_REPORT}:
        return _report(letter, job)
    return _without_job(letter) if job is None else _of_job(letter, job)


def _report(letter: LetterFacts, job: JobFacts | None) -> Plan:
    if job is not None and job.status.is_final:
        return Plan(Action.OBSOLETE, f"the job is {job.status}, and no report changes that")
    if job is None and letter.names_job and letter.kind is Kind.ANALYSIS_REPORT:
        # A camera's report creates its job; an analysis server's does not.
        return Plan(Action.OBSOLETE, "there is no such job")
    return Plan(Action.SEND_AGAIN, "the report goes back to its queue")


def _without_job(letter: LetterFacts) -> Plan:
    if letter.kind is Kind.STREAM_ENTRY:
        # A producer's entry needs no row; the results service makes one.
        return Plan(Action.SEND_AGAIN, "the entry goes onto the stream, as its first attempt")
    return Plan(Action.OBSOLETE, "there is no such job")


def _of_job(letter: LetterFacts, job: JobFacts) -> Plan:
    if not job.accepted:
        return Plan(Action.OBSOLETE, "the job was never accepted")
    if job.status in _DONE:
        return Plan(Action.OBSOLETE, f"the job is {job.status}")
    if job.status is JobStatus.FAILED:
        return Plan(Action.RESTART, f"the job failed, and begins run {job.run + 1}")
    return _open(letter, job)


def _open(letter: LetterFacts, job: JobFacts) -> Plan:
    if letter.run is not None and letter.run < job.run:
        return Plan(Action.OBSOLETE, f"the job was begun anew since, and is {job.status}")
    if letter.kind is Kind.STREAM_ENTRY:
        # In a run of its own, so that what is still to be told of the dead entry ends nothing.
        return Plan(Action.RESTART, f"the job is {job.status}, and begins run {job.run + 1}")
    if letter.kind is Kind.DISPATCH:
        if job.status in _ON_THE_LANE:
            return Plan(Action.REQUEUE, f"the job is {job.status}, and gets a new message")
        return Plan(Action.OBSOLETE, f"the job is {job.status}: it has been sent since")
    if job.status is JobStatus.QUEUED_FOR_ANALYSIS:
        return Plan(Action.ASK_AGAIN, "an analysis server is asked once more")
    return Plan(Action.OBSOLETE, f"the job is {job.status}, and will be sent anyway")
