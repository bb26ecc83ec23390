"""What a schedule may say, and what it may fire at: names that are stored and sent.

A target is a declared contract: a Dramatiq actor with a queue, and a model of its parameters. Our
own are below; other packages declare theirs by an entry point of the group TARGETS_GROUP, which
names a `TargetContract`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from headrace_common.contracts.cctv import CameraId, ClipSeconds

#: Entry points of this group are TargetContracts of other packages.
TARGETS_GROUP: Final = "headrace.targets"
#: Queue of firings that put jobs on their way; the dispatchers work it off.
FIRINGS_QUEUE: Final = "schedule_firings"
#: Queues of house-keeping, each worked off by the service that owns what is kept.
DISPATCHER_CHORES_QUEUE: Final = "chores_dispatcher"
STORAGE_CHORES_QUEUE: Final = "chores_storage"
RESULTS_CHORES_QUEUE: Final = "chores_results"
#: Begins the names of house-keeping targets, and of the built-in schedules that fire at them.
HOUSEKEEPING: Final = "housekeeping."


class MisfirePolicy(StrEnum):
    """What becomes of firings that came later than the schedule's grace, because nobody ran."""

    ONCE = "once"
    ALL = "all"
    SKIP = "skip"


class OverlapPolicy(StrEnum):
    """What becomes of a firing while what the last one began still runs."""

    ALLOW = "allow"
    SKIP = "skip"
    CANCEL = "cancel"


class FiringOrigin(StrEnum):
    """Why there is a firing."""

    SCHEDULE = "schedule"
    MISFIRE = "misfire"
    MANUAL = "manual"


class FiringState(StrEnum):
    """Where a firing is.

    `pending`: recorded, its message is not sent (Redis is away, or its target is at its limit).
    `sent`: its message is on a queue. `running`: a worker took it up, or its job is open.
    """

    PENDING = "pending"
    SENT = "sent"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"

    @property
    def is_final(self) -> bool:
        """Whether nothing changes the firing any more."""
        return self not in _OPEN


_OPEN: Final = frozenset({FiringState.PENDING, FiringState.SENT, FiringState.RUNNING})


class PerformFiring(BaseModel):
    """Keyword arguments of every actor that performs firings and reports what came of them."""

    model_config = ConfigDict(frozen=True)

    firing_id: int


class _Params(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NoParams(_Params):
    """A target that needs to be told nothing."""


class ReanalyseParams(_Params):
    """Which recording is analysed anew."""

    job_id: str = Field(min_length=1, max_length=200, description="Of an audio job")


class CameraParams(_Params):
    """Which camera is looked at."""

    camera: CameraId = Field(description="Name in the registry of cameras")
    seconds: ClipSeconds | None = Field(
        default=None, description="Length of the clip; the camera's own if unset"
    )


@dataclass(frozen=True)
class TargetContract:
    """Something that a schedule can fire at.

    Attributes:
        name: what schedules call it; dotted.
        summary: one sentence for people.
        params: model of the parameters; its errors name the field.
        queue: Dramatiq's, that the message goes to.
        actor: name of the Dramatiq actor.
        tracked: the actor takes `PerformFiring` and reports what came of it. Else it takes the
            parameters themselves as keyword arguments, and a firing has succeeded once its message
            is on the queue.
        key_of: from the parameters, what may not run too often at once: the target's key, which
            limits and overlaps are counted by. The name itself if unset.
    """

    name: str
    summary: str
    params: type[BaseModel]
    queue: str
    actor: str
    tracked: bool = True
    key_of: Callable[[Any], str] | None = None

    def key(self, params: BaseModel) -> str:
        """Return the key of the target that these parameters mean."""
        return self.key_of(params) if self.key_of is not None else self.name

    @property
    def is_housekeeping(self) -> bool:
        """Whether it is house-keeping of ours."""
        return self.name.startswith(HOUSEKEEPING)


def _chore(name: str, summary: str, queue: str) -> TargetContract:
    return TargetContract(
        name=HOUSEKEEPING + name,
        summary=summary,
        params=NoParams,
        queue=queue,
        actor=HOUSEKEEPING + name,
    )


REANALYSE: Final = TargetContract(
    name="audio.reanalyse",
    summary="Analyse the recording of an audio job anew: the job's next run",
    params=ReanalyseParams,
    queue=FIRINGS_QUEUE,
    actor="firing.reanalyse",
    key_of=lambda params: f"job:{params.job_id}",
)
PREPROCESS: Final = TargetContract(
    name="camera.preprocess",
    summary="Look at a registered camera: a new camera job",
    params=CameraParams,
    queue=FIRINGS_QUEUE,
    actor="firing.preprocess",
    key_of=lambda params: f"camera:{params.camera}",
)
RECOVER_JOBS: Final = _chore(
    "recover-jobs",
    "Queue audio jobs again whose message was lost, and end those that are stuck",
    DISPATCHER_CHORES_QUEUE,
)
TIDY_RECORDS: Final = _chore(
    "tidy-records",
    "Remove what outlived its retention: history of schedules, audit trail, dead letters that were "
    "decided about, idempotency keys",
    DISPATCHER_CHORES_QUEUE,
)
RECOVER_CAMERA_JOBS: Final = _chore(
    "recover-camera-jobs",
    "Put camera jobs on the stream again whose entry was lost, and end those that are stuck",
    RESULTS_CHORES_QUEUE,
)
TRIM_STREAMS: Final = _chore(
    "trim-streams", "Remove entries that no group needs from the streams", RESULTS_CHORES_QUEUE
)
ABORT_UPLOADS: Final = _chore(
    "abort-uploads",
    "End uploads that nobody completes, and remove what they left in S3",
    STORAGE_CHORES_QUEUE,
)
SEARCH_STORAGE: Final = _chore(
    "search-storage", "Look for objects and uploads in S3 that no job knows", STORAGE_CHORES_QUEUE
)
PURGE_JOBS: Final = _chore(
    "purge-jobs",
    "Remove finished jobs after their retention, with their recordings and results",
    STORAGE_CHORES_QUEUE,
)
EXPIRE_RESULTS: Final = _chore(
    "expire-results",
    "Remove the stored artefacts of results after theirs, and of shadow copies",
    STORAGE_CHORES_QUEUE,
)

_OURS: Final = (
    REANALYSE,
    PREPROCESS,
    RECOVER_JOBS,
    TIDY_RECORDS,
    RECOVER_CAMERA_JOBS,
    TRIM_STREAMS,
    ABORT_UPLOADS,
    SEARCH_STORAGE,
    PURGE_JOBS,
    EXPIRE_RESULTS,
)


@cache
def target_contracts() -> Mapping[str, TargetContract]:
    """Return every declared contract by its name.

    Raises:
        TypeError: an entry point of TARGETS_GROUP names something else.
        ValueError: one takes a name that is taken, or is kept for ours.
    """
    found = {contract.name: contract for contract in _OURS}
    for entry in entry_points(group=TARGETS_GROUP):
        contract = entry.load()
        if not isinstance(contract, TargetContract):
            raise TypeError(f"entry point {entry.name!r} of {TARGETS_GROUP} is no TargetContract")
        if contract.is_housekeeping:
            raise ValueError(f"{contract.name!r} is no name for the target of another package")
        if contract.name in found:
            raise ValueError(f"two targets are named {contract.name!r}")
        found[contract.name] = contract
    return found
