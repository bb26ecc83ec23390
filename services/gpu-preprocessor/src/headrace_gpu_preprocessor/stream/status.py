"""What GET /worker/status tells of the stream: the group, and what each slot does."""

import contextlib
import time
from collections.abc import Mapping
from typing import Any, Final

import redis
from pydantic import BaseModel, Field

from headrace_common.contracts.cctv import Stage
from headrace_gpu_preprocessor.admission import AdmissionView
from headrace_gpu_preprocessor.stream import metrics
from headrace_gpu_preprocessor.stream.gate import GateView
from headrace_gpu_preprocessor.stream.settings import StreamSettings
from headrace_gpu_preprocessor.stream.slots import Slots, Work

#: Pending entries that are listed one by one.
_MOST_LISTED: Final = 50


class PendingEntry(BaseModel):
    """An entry that was handed out and is not acknowledged."""

    entry_id: str
    consumer: str
    idle_seconds: float = Field(description="Since its lease was renewed last")
    deliveries: int


class GroupView(BaseModel):
    """The consumer group, as the server has it."""

    stream: str
    group: str
    length: int = Field(description="Entries in the stream, done ones that are not trimmed too")
    pending: int
    lag: int | None = Field(
        description="Entries never handed out; unknown before Redis 7 and after some deletions"
    )
    last_delivered_id: str
    consumers: dict[str, int] = Field(description="Pending entries of each consumer that has any")
    oldest_pending_seconds: float = Field(description="Age of the oldest pending entry; 0 if none")
    delayed: int = Field(description="Entries that wait for their next attempt")
    dead_letters: int
    reports: int = Field(description="Reports that are not trimmed yet")


class SlotView(BaseModel):
    """What one slot does."""

    slot: int
    entry_id: str
    delivery: int
    job_id: str | None = None
    cctv_id: str | None = None
    attempt: int | None = None
    stage: Stage | None = None
    percent: float = 0
    message: str = ""
    seconds: float = 0
    lease_seconds_left: float
    stopping: bool


class StreamSnapshot(BaseModel):
    """The consumer of this process, and its group."""

    consumer: str
    concurrency: int
    busy: int
    paused: bool
    paused_by_stream: str | None = Field(
        default=None, description="Why no worker takes anything new; null while they may"
    )
    stopping: bool
    slots: list[SlotView]
    group: GroupView | None
    pending: list[PendingEntry] = Field(description=f"The oldest, at most {_MOST_LISTED}")
    error: str | None = Field(default=None, description="Why the group could not be read")
    last_contact_seconds: float | None = Field(description="Since Redis answered last")
    counts: dict[str, int]
    admission: AdmissionView
    waiting_for: GateView | None = Field(
        default=None, description="What every job needs and is at fault, as Swift; null if nothing"
    )


class GroupReader:
    """Asks the server for the state of the group, synchronously and in bounded time."""

    def __init__(self, client: redis.Redis, settings: StreamSettings) -> None:
        """Ask through `client`."""
        self._client = client
        self._settings = settings

    def read(self) -> tuple[GroupView, list[PendingEntry]]:
        """Return the group, and its oldest pending entries.

        Raises:
            redis.RedisError: the server does not answer, or there is no such group.
        """
        settings = self._settings
        stream, group = settings.redis_stream, settings.redis_group
        with self._client.pipeline(transaction=False) as pipe:
            pipe.xinfo_groups(stream)
            pipe.xpending(stream, group)
            pipe.xpending_range(stream, group, "-", "+", _MOST_LISTED)
            pipe.xlen(stream)
            pipe.zcard(settings.delayed_key)
            pipe.xlen(settings.redis_dlq_stream)
            pipe.xlen(settings.reports_stream)
            pipe.time()
            groups, summary, oldest, length, delayed, letters, reports, now = pipe.execute()
        state = next((each for each in groups if each["name"] == group.encode()), None)
        if state is None:
            raise redis.ResponseError("NOGROUP the group is missing")
        view = GroupView(
            stream=stream,
            group=group,
            length=length,
            pending=summary["pending"],
            lag=state.get("lag"),
            last_delivered_id=_text(state["last-delivered-id"]),
            consumers=_consumers(summary),
            oldest_pending_seconds=_age(summary["min"], now),
            delayed=delayed,
            dead_letters=letters,
            reports=reports,
        )
        return view, [_pending(row) for row in oldest]


def note(view: GroupView) -> None:
    """Set the gauges."""
    metrics.PENDING.set(view.pending)
    metrics.LAG.set(float("nan") if view.lag is None else view.lag)
    metrics.OLDEST_PENDING_SECONDS.set(view.oldest_pending_seconds)
    metrics.DELAYED.set(view.delayed)
    metrics.DEAD_LETTERS.set(view.dead_letters)
    metrics.REPORTS_WAITING.set(view.reports)


def slot_views(slots: Slots) -> list[SlotView]:
    """Return what each slot does."""
    return [_slot(work) for work in slots.works]


def _slot(work: Work) -> SlotView:
    hold, job = work.delivery.hold, work.job
    view = SlotView(
        slot=work.slot,
        entry_id=hold.entry_id,
        delivery=hold.delivery,
        lease_seconds_left=round(work.lease.seconds_left, 1),
        stopping=work.stopping.is_set(),
    )
    if job is None:
        return view
    return view.model_copy(
        update={
            "job_id": job.job_id,
            "cctv_id": job.entry.cctv_id,
            "attempt": job.entry.attempt,
            "stage": job.now.stage,
            "percent": job.now.percent,
            "message": job.now.message,
            "seconds": round(job.seconds, 1),
        }
    )


def _pending(row: Mapping[str, Any]) -> PendingEntry:
    return PendingEntry(
        entry_id=_text(row["message_id"]),
        consumer=_text(row["consumer"]),
        idle_seconds=row["time_since_delivered"] / 1_000,
        deliveries=row["times_delivered"],
    )


def _consumers(summary: Mapping[str, Any]) -> dict[str, int]:
    return {_text(each["name"]): each["pending"] for each in summary["consumers"]}


def _age(oldest: bytes | None, now: tuple[int, int]) -> float:
    """Seconds since an entry was added, by the server's clock: its id begins with the time."""
    if oldest is None:
        return 0.0
    with contextlib.suppress(ValueError):  # a producer may have given an id of its own
        return max(0.0, round(now[0] - int(_text(oldest).partition("-")[0]) / 1_000, 1))
    return 0.0


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def seconds_since(moment: float | None) -> float | None:
    """Return the seconds since a monotonic time."""
    return None if moment is None else round(time.monotonic() - moment, 1)
