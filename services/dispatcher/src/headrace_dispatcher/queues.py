"""The queues: what waits in each, and pausing them (O2).

That a queue is paused is a row. The dispatchers look at it themselves; the workers of the stream
know no database, so that a key in Redis tells them, which is kept true here.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Final

import redis
import structlog
from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from headrace_common.audit import actor_of
from headrace_common.contracts.cctv import PAUSED_SUFFIX
from headrace_common.contracts.jobs import JobKind
from headrace_common.contracts.lanes import Lane
from headrace_common.db import Database, QueueControl
from headrace_common.errors import ForbiddenError, NotFoundError, UnavailableError
from headrace_common.keys import Principal, Scope
from headrace_common.queue_controls import paused_queues, set_paused
from headrace_common.web import requires
from headrace_common.web.problems import responses
from headrace_dispatcher.backlog import QueueBacklog, by_queue, open_jobs

log = structlog.get_logger()

#: How often the key in Redis is compared with the row.
_MIRROR_SECONDS: Final = 5.0


class QueueView(BaseModel):
    """A queue."""

    name: str = Field(examples=["high_priority"])
    kind: JobKind
    lane: Lane | None = Field(description="null for the stream of camera jobs")
    paused: bool = Field(description="Nothing is taken off it; what is in hand goes on")
    paused_by: str | None = Field(description="Id of the API key")
    paused_since: datetime | None
    reason: str | None
    waiting: int = Field(description="Jobs that are `queuing` or `queued`")
    started: int = Field(description="Jobs that are `processing`")
    oldest_seconds: float = Field(description="Since the first of those that wait began to")
    waiting_for: dict[str, int] = Field(
        description="Jobs that wait in their rows, by the dependency at fault; `retry`: for their "
        "next try",
        examples=[{"sqs": 12}],
    )
    messages: int | None = Field(
        description="In Redis, those in hand included; null while it does not answer"
    )


class QueueList(BaseModel):
    """Every queue: the lanes in order of preference, and the stream."""

    queues: list[QueueView]


class PauseRequest(BaseModel):
    """Why a queue is paused."""

    reason: str | None = Field(default=None, min_length=1, max_length=500, pattern=r"^[^\x00]*$")


class Queues:
    """The queues that there are, and whether they are paused."""

    def __init__(
        self, database: Database, client: redis.Redis, *, namespace: str, stream: str
    ) -> None:
        """Make it.

        Args:
            database: has the rows.
            client: of the Redis with the queues.
            namespace: Dramatiq's.
            stream: name of the stream of camera jobs.
        """
        self._database = database
        self._redis = client
        self._namespace = namespace
        self._stream = stream
        self._lanes: dict[str, Lane | None] = {lane.queue_name: lane for lane in Lane}
        self._lanes[stream] = None

    @property
    def names(self) -> Mapping[str, Lane | None]:
        """The queues by their names, with the lane of each; the stream has none."""
        return self._lanes

    def show(self) -> list[QueueView]:
        """Return every queue."""
        with self._database.begin() as session:
            paused = paused_queues(session)
            backlog = by_queue(open_jobs(session))
        return [
            self._view(name, lane, paused.get(name), backlog) for name, lane in self._lanes.items()
        ]

    def set_paused(self, name: str, *, paused: bool, actor: str, reason: str | None) -> QueueView:
        """Pause a queue, or let it go on.

        Raises:
            NotFoundError: there is no such queue.
        """
        if name not in self._lanes:
            known = ", ".join(self._lanes)
            raise NotFoundError(f"no queue {name[:100]!r}; there are {known}")
        with self._database.begin() as session:
            set_paused(session, name, paused=paused, actor=actor, reason=reason)
        if name == self._stream:
            try:
                self._tell_workers(paused=paused, reason=reason)
            except (redis.RedisError, OSError) as error:
                log.warning("queues.workers_not_told", error=str(error)[:500])  # `mirror` does
        return next(view for view in self.show() if view.name == name)

    def mirror(self) -> float:
        """Tell the workers of the stream what the row says; Redis may have forgotten it.

        Returns:
            Seconds until that is wanted again.
        """
        with self._database.begin() as session:
            row = paused_queues(session).get(self._stream)
            reason = row.reason if row else None
        self._tell_workers(paused=row is not None, reason=reason)
        return _MIRROR_SECONDS

    def _tell_workers(self, *, paused: bool, reason: str | None) -> None:
        key = f"{self._stream}{PAUSED_SUFFIX}"
        if paused:
            self._redis.set(key, reason or "paused")
        else:
            self._redis.delete(key)

    def _view(
        self,
        name: str,
        lane: Lane | None,
        control: QueueControl | None,
        backlog: Mapping[Lane | None, QueueBacklog],
    ) -> QueueView:
        found = backlog.get(lane, QueueBacklog())
        return QueueView(
            name=name,
            kind=JobKind.AUDIO_ANALYSIS if lane else JobKind.CCTV_PREPROCESS,
            lane=lane,
            paused=control is not None,
            paused_by=control.changed_by if control else None,
            paused_since=control.changed_at if control else None,
            reason=control.reason if control else None,
            waiting=found.waiting,
            started=found.started,
            oldest_seconds=found.oldest_seconds,
            waiting_for=found.waits_for,
            messages=self._messages(name, lane),
        )

    def _messages(self, name: str, lane: Lane | None) -> int | None:
        count: Callable[[], object] = (
            (lambda: self._redis.hlen(f"{self._namespace}:{name}.msgs"))
            if lane
            else (lambda: self._redis.xlen(name))
        )
        try:
            return int(str(count()))
        except (redis.RedisError, OSError) as error:
            log.warning("queues.not_counted", queue=name, error=str(error)[:500])
            return None


def queues_router(queues: Queues) -> APIRouter:
    """Make the routes on the queues."""
    router = APIRouter(tags=["queues"])
    admin = requires(Scope.ADMIN)
    documented = responses(ForbiddenError, NotFoundError, UnavailableError)

    @router.get(
        "/queues",
        dependencies=[Depends(requires(Scope.JOBS_READ))],
        responses=responses(ForbiddenError, UnavailableError),
    )
    def list_queues() -> QueueList:
        """Show every queue: what waits in it, for how long, for what, and who paused it."""
        return QueueList(queues=queues.show())

    @router.post("/queues/{name}/pause", responses=documented)
    def pause_queue(
        name: str,
        caller: Annotated[Principal, Depends(admin)],
        wish: PauseRequest | None = None,
    ) -> QueueView:
        """Take nothing off a queue from now on; jobs are accepted, and wait.

        What is in hand goes on to its end. A paused queue survives restarts of everything.
        """
        reason = wish.reason if wish else None
        return queues.set_paused(name, paused=True, actor=actor_of(caller), reason=reason)

    @router.post("/queues/{name}/resume", responses=documented)
    def resume_queue(name: str, caller: Annotated[Principal, Depends(admin)]) -> QueueView:
        """Go on with a queue."""
        return queues.set_paused(name, paused=False, actor=actor_of(caller), reason=None)

    return router
