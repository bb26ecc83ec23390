"""What to do with a job that has been in its stage for long: pure decisions."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from headrace_common.contracts.analysis import ANALYSIS_PROGRESS
from headrace_common.contracts.jobs import DIRECT_UPLOAD_EXPIRES_AT, JobStatus
from headrace_common.db import Job
from headrace_dispatcher.settings import DispatcherSettings


class Action(Enum):
    """What a recovery does."""

    #: Put a new Dramatiq message on the lane.
    REQUEUE = "requeue"
    #: Put a new Dramatiq message on the lane if the old one is gone.
    REQUEUE_IF_LOST = "requeue_if_lost"
    #: Put a new Dramatiq message on the lane if the old one is gone, or has been in a worker's
    #: hands all the time.
    REQUEUE_IF_STUCK = "requeue_if_stuck"
    #: Send the job to the analysis servers once more.
    ASK_AGAIN = "ask_again"
    #: End the job with a reason.
    FAIL = "fail"


@dataclass(frozen=True)
class Recovery:
    """A decision and its reason, for the job's timeline."""

    action: Action
    code: str
    reason: str


def plan_recovery(job: Job, settings: DispatcherSettings, *, now: datetime) -> Recovery | None:
    """Decide what a job needs that has been in its stage since `job.stage_entered_at`.

    Returns:
        None while the job is within its time, or waits until a time that its row says.
    """
    if job.retry_at is not None and now < job.retry_at + _patience(job, settings):
        return None
    if job.status == JobStatus.QUEUED_FOR_ANALYSIS:
        return _unanswered(job, settings, now=now)
    if job.status == JobStatus.SCHEDULED:
        return None  # it belongs to those who look for jobs whose time has come
    if job.status == JobStatus.UPLOADING and DIRECT_UPLOAD_EXPIRES_AT in job.input:
        return None  # the client has time of its own; ingest-api ends it
    due = {rule.status.value: rule for rule in _rules(settings, now - job.stage_entered_at)}
    # A version after this one may know more statuses: they are its own affair.
    return due[job.status].recovery if job.status in due else None


def _patience(job: Job, settings: DispatcherSettings) -> timedelta:
    """Return how long after its `retry_at` a job may be where it is."""
    if job.status == JobStatus.QUEUED_FOR_ANALYSIS:
        return timedelta()
    # Until then it belongs to those who look for jobs whose wait is over.
    return timedelta(seconds=settings.lost_after_seconds)


@dataclass(frozen=True)
class _Rule:
    status: JobStatus
    limit: timedelta
    recovery: Recovery


def _rules(settings: DispatcherSettings, age: timedelta) -> list[_Rule]:
    """Return the rules whose limit `age` exceeds, the longer limit of a status last."""
    lost_after = timedelta(seconds=settings.lost_after_seconds)
    lost = Recovery(Action.REQUEUE_IF_LOST, "message_lost", "its message was lost")
    stage = timedelta(seconds=settings.job_stage_timeout_seconds)
    stuck = Recovery(Action.REQUEUE_IF_STUCK, "stage_timed_out", "no end of the stage in its time")
    rules = [
        _Rule(
            JobStatus.UPLOADING,
            timedelta(seconds=settings.upload_timeout_seconds),
            Recovery(Action.FAIL, "upload_abandoned", "the upload never ended"),
        ),
        _Rule(
            JobStatus.QUEUING,
            lost_after,
            Recovery(Action.REQUEUE, "never_queued", "the queue had not taken the job"),
        ),
        _Rule(JobStatus.QUEUED, lost_after, lost),
        _Rule(JobStatus.PROCESSING, lost_after, lost),
        _Rule(JobStatus.QUEUED, stage, stuck),
        _Rule(JobStatus.PROCESSING, 2 * stage, stuck),
    ]
    return [rule for rule in sorted(rules, key=lambda rule: rule.limit) if age > rule.limit]


def _unanswered(job: Job, settings: DispatcherSettings, *, now: datetime) -> Recovery | None:
    """Decide on a job that an analysis server has.

    One that has begun shows signs of life, so that silence counts; one that has not may be
    waiting in SQS, which is nobody's fault. Signs of life alone do not go on for ever either.
    """
    deadline = timedelta(seconds=settings.analysis_deadline_seconds)
    in_stage = silence = now - job.stage_entered_at
    limit = deadline
    if job.meta.get(ANALYSIS_PROGRESS) is not None:
        silence = now - job.updated_at
        limit = timedelta(seconds=settings.job_stage_timeout_seconds)
    if silence <= limit and in_stage <= deadline:
        return None
    reason = f"no answer from an analysis server within {limit if silence > limit else deadline}"
    # Asking may fail too, and is not counted then: as long as every try might have taken.
    tries = settings.job_max_retries + 1
    if job.deliveries >= tries or in_stage > tries * deadline:
        return Recovery(
            Action.FAIL, "analysis_timed_out", f"{reason}, asked {job.deliveries} times"
        )
    return Recovery(Action.ASK_AGAIN, "analysis_timed_out", reason)
