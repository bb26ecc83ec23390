"""Shadow mode: copies of jobs for the other side. Nothing that happens to a copy touches its job.

A copy goes its own way, in batches of its own, once the job itself was taken. It is sent once
a run: what becomes of it is a figure, not a duty. Its row is there before it is sent, so that
no answer comes too early.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog
from prometheus_client import Counter
from sqlalchemy import func, update
from sqlalchemy.dialects.postgresql import insert

from headrace_common import webhooks
from headrace_common.contracts.analysis import SHADOW_SUFFIX
from headrace_common.db import Database, Job, ShadowRun
from headrace_common.settings import WebhookSettings
from headrace_common.telemetry.metrics import from_zero
from headrace_dispatcher.microbatch import BatchLimits, MicroBatcher
from headrace_dispatcher.transports import (
    Dispatch,
    Receipt,
    Transport,
    TransportError,
    TransportName,
    wire_size,
)

log = structlog.get_logger()

#: Copies that wait in a process; further ones are left out, and counted.
_MOST_WAITING: Final = 1_000
#: A copy waits longer for company than a job: nobody waits for it.
_LINGER_SECONDS: Final = 0.05
_SENDERS: Final = 2
_MAX_REASON: Final = 500

_COPIES: Final = Counter(
    "headrace_shadow_copies_total",
    "Copies of jobs for the other side",
    ["transport", "outcome"],
)
from_zero(_COPIES, TransportName, ("taken", "refused", "left_out"))


@dataclass(frozen=True)
class Copy:
    """A copy on its way.

    Attributes:
        job_id: of the job itself.
        run: of the job.
        dispatch: what is sent, under the copy's own id.
    """

    job_id: str
    run: int
    dispatch: Dispatch


def copy_of(job: Job, dispatch: Dispatch, settings: WebhookSettings, *, webhook_url: str) -> Copy:
    """Make the copy of what is sent for a job: the same, with an id and a token of its own."""
    copy_id = f"{job.id}{SHADOW_SUFFIX}"
    secrets = settings.callback_token_secret_texts()
    token = webhooks.callback_token(copy_id, secret=secrets[0]) if secrets else None
    url = webhooks.callback_url(webhook_url, copy_id, token=token, run=job.run)
    request = dispatch.request.model_copy(
        update={"job_id": copy_id, "callback_url": url, "webhook_url": url}
    )
    return Copy(job.id, job.run, replace(dispatch, request=request, metadata={}))


class Copies:
    """Sends copies in the background. Safe to use from any thread."""

    def __init__(
        self,
        database: Database,
        transports: Sequence[Transport],
        *,
        linger: float = _LINGER_SECONDS,
    ) -> None:
        """Make and start it."""
        self._database = database
        self._transports = {transport.name: transport for transport in transports}
        self._room = threading.BoundedSemaphore(_MOST_WAITING)
        self._batchers = {
            (transport.name, destination): self._batcher(transport, destination, linger)
            for transport in transports
            for destination in transport.destinations()
        }

    def send(self, copy: Copy, name: TransportName) -> None:
        """Send a copy over `name`, soon or never; whoever calls hears nothing of it."""
        transport = self._transports.get(name)
        if transport is None or not self._room.acquire(blocking=False):
            _COPIES.labels(transport=name, outcome="left_out").inc()
            return
        try:
            batcher = self._batchers[name, transport.destination(copy.dispatch.lane)]
            batcher.submit(copy).add_done_callback(lambda _: self._room.release())
        except Exception:
            # Closed meanwhile, or at fault: no copy is worth the job that it is made of.
            self._room.release()
            log.exception("rollout.copy_left_out")

    def close(self) -> None:
        """Send what waits; the transports belong to the bridge."""
        for batcher in self._batchers.values():
            batcher.close()

    def _batcher(
        self, transport: Transport, destination: str, linger: float
    ) -> MicroBatcher[Copy, None]:
        return MicroBatcher(
            lambda batch: self._send_all(transport, destination, batch),
            name=f"shadow-{transport.name}",
            limits=BatchLimits(
                entries=transport.max_entries,
                size=transport.max_bytes,
                linger_seconds=linger if transport.max_entries > 1 else 0.0,
            ),
            size_of=lambda copy: wire_size(copy.dispatch),
            senders=_SENDERS,
        )

    def _send_all(
        self, transport: Transport, destination: str, batch: Sequence[Copy]
    ) -> list[None]:
        try:
            first = self._begin(transport.name, batch)
            copies = [copy for copy in batch if copy.job_id in first]
            if copies:
                self._note(transport.name, copies, _answers(transport, destination, copies))
        except Exception as error:  # noqa: BLE001 - a copy must never trouble anybody
            _COPIES.labels(transport=transport.name, outcome="left_out").inc(len(batch))
            log.warning("shadow.not_sent", copies=len(batch), error=str(error)[:_MAX_REASON])
        return [None] * len(batch)

    def _begin(self, name: TransportName, batch: Sequence[Copy]) -> set[str]:
        """Make the rows, and return the ids of the jobs whose run had none."""
        runs = {copy.job_id: copy.run for copy in batch}
        statement = insert(ShadowRun).values(
            [
                {"job_id": job_id, "run": run, "transport": name}
                for job_id, run in sorted(runs.items())
            ]
        )
        anew = {
            "run": statement.excluded.run,
            "transport": statement.excluded.transport,
            "created_at": func.clock_timestamp(),
            **dict.fromkeys(
                (
                    *("sent_at", "send_error", "status", "result", "error_code", "answered_at"),
                    *("same", "differences"),
                )
            ),
        }
        upserted = statement.on_conflict_do_update(
            index_elements=[ShadowRun.job_id],
            set_=anew,
            where=ShadowRun.run < statement.excluded.run,
        ).returning(ShadowRun.job_id)
        with self._database.begin() as session:
            return set(session.scalars(upserted))

    def _note(
        self, name: TransportName, copies: Sequence[Copy], answers: Sequence[str | None]
    ) -> None:
        sent = [copy.job_id for copy, fault in zip(copies, answers, strict=True) if fault is None]
        with self._database.begin() as session:
            if sent:
                session.execute(
                    update(ShadowRun)
                    .where(ShadowRun.job_id.in_(sent))
                    .values(sent_at=func.clock_timestamp())
                )
            for copy, fault in zip(copies, answers, strict=True):
                if fault is not None:
                    session.execute(
                        update(ShadowRun)
                        .where(ShadowRun.job_id == copy.job_id)
                        .values(send_error=fault[:_MAX_REASON])
                    )
        _COPIES.labels(transport=name, outcome="taken").inc(len(sent))
        _COPIES.labels(transport=name, outcome="refused").inc(len(copies) - len(sent))


def _answers(transport: Transport, destination: str, copies: Sequence[Copy]) -> list[str | None]:
    """Send, and return for each why it was not taken; None where it was."""
    answers: Sequence[Receipt | TransportError]
    try:
        answers = transport.send(destination, [copy.dispatch for copy in copies])
    except TransportError as error:
        answers = [error] * len(copies)
    return [answer.reason if isinstance(answer, TransportError) else None for answer in answers]
