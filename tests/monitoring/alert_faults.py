"""What goes wrong in the drill: for every alert a fault that is really made, and mended."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from alert_deeds import CAMERAS, Saboteur
from watched_stack import WatchedStack

from headrace_common.contracts.lanes import Lane
from headrace_local.services import ANALYSIS, DISPATCHER

#: Schedule of the sweep.
_SWEEP: Final = "housekeeping.recover-jobs"


def _nothing() -> None:
    """Do nothing: the fault is what is done again and again."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something that goes wrong.

    Attributes:
        name: what it is.
        alerts: which fire while it lasts, and clear once it is mended.
        prepare: away with what others have left that its alerts would tell of.
        make: let it happen.
        mend: end it.
        prod: done again and again while it lasts, every so many seconds.
        use: done so too, and after it until the alerts clear.
        breaks: what does not work meanwhile; nobody else may break or need it.
        needs: what must work.
        where: labels that its alerts have, those that have such labels at all.
    """

    name: str
    alerts: tuple[str, ...]
    prepare: Callable[[], object] = _nothing
    make: Callable[[], object] = _nothing
    mend: Callable[[], object] = _nothing
    prod: Callable[[], object] = _nothing
    use: Callable[[], object] = _nothing
    every_seconds: float = 0.5
    breaks: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset()
    where: Mapping[str, str] = field(default_factory=dict)

    def conflicts_with(self, other: "Fault") -> bool:
        """Whether the two must not happen at the same time."""
        mine, others = self.breaks | self.needs, other.breaks | other.needs
        return bool(self.breaks & others or other.breaks & mine)


def faults_of(stack: WatchedStack, deeds: Saboteur) -> Iterator[Fault]:
    """Yield them, those first that take longest."""
    yield from _long_ones(stack, deeds)
    yield from _of_jobs(stack, deeds)
    yield from _of_schedules(deeds)
    yield from _of_cameras(deeds)
    yield from _of_letters(deeds)


def _long_ones(stack: WatchedStack, deeds: Saboteur) -> Iterator[Fault]:
    yield Fault(
        name="a session of Postgres holds jobs that the dispatcher is to take",
        alerts=("HeadraceQueueOld", "HeadraceJobsOverdue"),
        make=deeds.hold_jobs,
        mend=deeds.let_jobs_go,
    )
    yield Fault(
        name="the only dispatcher is stopped",
        alerts=("HeadraceServiceGone", "HeadraceTargetDown"),
        where={"job": "dispatcher"},
        make=lambda: stack.stop(DISPATCHER),
        mend=lambda: stack.start(DISPATCHER),
        breaks=frozenset({"dispatcher"}),
        needs=frozenset({"redis"}),
    )
    yield Fault(
        name="Redis is stopped, with a schedule that comes due",
        alerts=("HeadraceSseHubAway", "HeadraceFiringsPending"),
        make=deeds.stop_redis,
        mend=deeds.start_redis,
        breaks=frozenset({"redis"}),
    )
    yield Fault(
        name="S3 is stopped, and clients upload",
        alerts=("HeadraceSloBurnsFast",),
        where={"slo": "api_availability"},
        make=lambda: stack.stop("s3"),
        mend=lambda: stack.start("s3"),
        use=deeds.try_to_upload,
        breaks=frozenset({"s3", "circuits"}),
    )
    yield Fault(
        name="the leader's connections to Postgres break again and again",
        alerts=("HeadraceSchedulerFlaps",),
        prod=deeds.break_connections,
        every_seconds=3,
        breaks=frozenset({"scheduler"}),
    )


def _of_jobs(stack: WatchedStack, deeds: Saboteur) -> Iterator[Fault]:
    yield Fault(
        name="somebody pauses a lane",
        alerts=("HeadraceQueuePaused",),
        make=lambda: deeds.command("pause", Lane.LOW.queue_name),
        mend=lambda: deeds.command("resume", Lane.LOW.queue_name),
        needs=frozenset({"dispatcher"}),
    )
    yield Fault(
        name="an analysis server signs with a secret that nobody has",
        alerts=("HeadraceReportsRefused",),
        prod=deeds.send_unsigned,
    )
    yield Fault(
        name="a report in the inbox that this version cannot read",
        alerts=("HeadraceReportsUnapplied",),
        make=deeds.leave_report,
        mend=deeds.mend_report,
        use=deeds.replay_reports,
        every_seconds=5,
        needs=frozenset({"dispatcher", "letters"}),
    )
    yield Fault(
        name="an object in S3 that no job knows",
        alerts=("HeadraceStorageUnknown",),
        make=deeds.add_stray,
        mend=deeds.remove_stray,
        needs=frozenset({"s3", "scheduler", "dispatcher", "redis"}),
    )
    yield Fault(
        name="the analysis server hangs, with jobs on their way to it",
        alerts=("HeadraceNoWebhook", "HeadraceJobsStuck"),
        make=lambda: stack.freeze(ANALYSIS),
        mend=lambda: stack.thaw(ANALYSIS),
        prod=deeds.upload,
        every_seconds=1.5,
        breaks=frozenset({"analysis"}),
        needs=frozenset({"dispatcher", "s3", "redis"}),
    )
    yield Fault(
        name="SQS is stopped in the middle of a roll-out to it",
        alerts=("HeadraceRolledBack", "HeadraceCircuitOpen", "HeadraceAwsErrors"),
        make=deeds.stop_sqs,
        mend=deeds.start_sqs,
        use=deeds.upload,
        every_seconds=1,
        breaks=frozenset({"sqs", "circuits"}),
        needs=frozenset({"dispatcher", "s3", "redis", "analysis"}),
    )


def _of_schedules(deeds: Saboteur) -> Iterator[Fault]:
    yield Fault(
        name="the only scheduler is cut off from Postgres during a roll-out",
        alerts=("HeadraceSchedulerWithoutLeader", "HeadraceRolloutsDiffer"),
        make=deeds.cut_off,
        mend=deeds.heal_connections,
        breaks=frozenset({"scheduler"}),
        needs=frozenset({"dispatcher"}),
    )
    yield Fault(
        name="somebody pauses the sweep",
        alerts=("HeadraceSweepStale",),
        make=lambda: deeds.command("schedules", "pause", _SWEEP),
        mend=lambda: deeds.command("schedules", "resume", _SWEEP),
        needs=frozenset({"dispatcher", "scheduler", "redis"}),
    )
    yield Fault(
        name="somebody writes a schedule by hand",
        alerts=("HeadraceSchedulesBroken",),
        make=deeds.spoil_schedule,
        mend=deeds.remove_spoiled,
        needs=frozenset({"scheduler"}),
    )


def _of_cameras(deeds: Saboteur) -> Iterator[Fault]:
    yield Fault(
        name="a gpu-preprocessor hangs in a job, the other has no memory for any",
        alerts=("HeadraceGpuStarved", "HeadraceGpuMemoryShort", "HeadraceStreamPendingOld"),
        make=deeds.starve,
        mend=deeds.feed,
        breaks=frozenset({"gpu-preprocessor"}),
        # Who is to be scraped is written down anew meanwhile: of a service that is away it is lost.
        needs=frozenset({"redis", "dispatcher"}),
    )
    yield Fault(
        name=f"one of {CAMERAS} cameras is gone",
        alerts=("HeadraceSloBurnsSlowly",),
        make=deeds.lose_camera,
        mend=deeds.find_camera,
        use=deeds.watch_cameras,
        where={"slo": "camera_jobs"},
        needs=frozenset({"gpu-preprocessor", "redis", "letters"}),
    )


def _of_letters(deeds: Saboteur) -> Iterator[Fault]:
    yield Fault(
        name="somebody puts nonsense on the job stream",
        alerts=("HeadraceDeadLettersGrow",),
        prod=deeds.add_nonsense,
        needs=frozenset({"redis", "gpu-preprocessor", "letters"}),
    )
    yield Fault(
        name="messages that no actor takes",
        alerts=("HeadraceMessagesGivenUp",),
        prod=deeds.send_to_nobody,
        every_seconds=2,
        needs=frozenset({"redis", "dispatcher", "letters"}),
    )
    yield Fault(
        name="nobody decides about a dead letter",
        alerts=("HeadraceDeadLettersUndecided",),
        prepare=deeds.drop_letters,
        make=deeds.add_nonsense,
        mend=deeds.drop_letters,
        breaks=frozenset({"letters"}),
        needs=frozenset({"redis", "gpu-preprocessor"}),
    )
