"""What may be asked of a job, and what becomes of it: plain values, no I/O."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import JsonValue

from headrace_common.contracts.events import JobEvent
from headrace_common.contracts.jobs import JobKind, JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_common.jobs.durations import Moved
from headrace_common.jobs.states import predecessors


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """A job to be created, `uploading` at 10 per cent unless told otherwise.

    Attributes:
        queue_message_id: of what tells a worker of it, where that was there first.
    """

    id: str
    kind: JobKind
    lane: Lane
    message: str
    token_id: str | None = None
    created_by: str | None = None
    input: dict[str, JsonValue] = field(default_factory=dict)
    status: JobStatus = JobStatus.UPLOADING
    queue_message_id: str | None = None


@dataclass(frozen=True)
class Failure:
    """Why a job failed."""

    code: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Change:
    """A wish that a job become `to`.

    Attributes:
        progress: per cent; what PROGRESS says for the status where None. Never lowers. In a
            status of TELL_PROGRESS the event is `progress`, and one below what was reached is
            refused.
        metadata: merged into the job's, never replacing it; merged even where the change of
            status is refused, because what it tells is true all the same.
        data: goes into the event only.
        input: merged into what the job works on.
        lane: another lane, while the job is not yet on a queue.
        only_from: narrows the statuses that the change may start from.
        only_run: the run that it belongs to: what somebody does who had the job before it was begun
            anew changes nothing of its next run.
        takes_up: a worker begins the stage, perhaps again: its clock starts and a delivery is
            counted.
        restarts_stage: its clock starts anew, without counting.
        starts_run: somebody asked for the job to be done anew: from any status, a final one too,
            it becomes `to` in its next run; the event is `restarted`.
        retry_at: the job waits for its next try until then. Every other change ends the wait.
        waiting_for: what it waits for, where that is a dependency at fault: `sqs`, for instance.
        run_at: when its client wants it begun, which it keeps.
    """

    job_id: str
    to: JobStatus
    message: str
    progress: int | None = None
    metadata: dict[str, JsonValue] = field(default_factory=dict)
    data: dict[str, JsonValue] = field(default_factory=dict)
    input: dict[str, JsonValue] = field(default_factory=dict)
    result: dict[str, JsonValue] | None = None
    failure: Failure | None = None
    queue_message_id: str | None = None
    transport: str | None = None
    lane: Lane | None = None
    only_from: frozenset[JobStatus] | None = None
    only_run: int | None = None
    takes_up: bool = False
    restarts_stage: bool = False
    starts_run: bool = False
    retry_at: datetime | None = None
    waiting_for: str | None = None
    run_at: datetime | None = None

    def allowed_from(self) -> frozenset[JobStatus]:
        """Return the statuses from which this change happens."""
        allowed = frozenset(JobStatus) if self.starts_run else predecessors(self.to)
        return allowed if self.only_from is None else allowed & self.only_from


@dataclass(frozen=True)
class Outcome:
    """What became of a change.

    Attributes:
        applied: whether the job changed.
        status: its status afterwards.
        deliveries: times that a worker took the job up in its present stage.
        event: what was added to the timeline; None where a repetition was not worth an entry.
        moved: what it came from, where it changed.
    """

    job_id: str
    applied: bool
    status: JobStatus
    deliveries: int
    event: JobEvent | None
    moved: Moved | None = None


def distinct_jobs(changes: Sequence[Change]) -> list[list[int]]:
    """Group the indexes of `changes`, in order, so that no group has a job twice.

    One statement sees each row once, so that a second change of the same job needs a second.
    """
    groups: list[list[int]] = []
    seen: list[set[str]] = []
    for index, change in enumerate(changes):
        depth = sum(change.job_id in ids for ids in seen)
        if depth == len(groups):
            groups.append([])
            seen.append(set())
        groups[depth].append(index)
        seen[depth].add(change.job_id)
    return groups
