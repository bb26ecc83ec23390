"""Which way a job goes: the question that dispatching asks.

Whoever divides jobs between the transports answers `Routing`; dispatching, asking again and the
gate of the lanes ask it and know nothing else of a roll-out.
"""

from dataclasses import dataclass
from typing import Protocol

from headrace_common.contracts.jobs import JobStatus
from headrace_common.db import Job
from headrace_dispatcher.transports import Dispatch, TransportName


@dataclass(frozen=True)
class Route:
    """Where a job goes.

    Attributes:
        transport: the side whose answer counts.
        shadow: the side that gets a copy once the first has taken the job; None: no copy.
    """

    transport: TransportName
    shadow: TransportName | None = None


class Routing(Protocol):
    """Divides jobs between the transports. Safe to use from several threads, and fast."""

    def route(self, job: Job) -> Route:
        """Decide where a job goes now, at its first attempt or at a later one.

        Dispatching notes the answer in `job.transport` before the job is sent. Once it was sent
        (`was_sent`) it keeps its side, unless that has been rolled back.
        """

    def in_use(self) -> frozenset[TransportName]:
        """Return the sides that new jobs may take now."""

    def taken(self, job: Job, dispatch: Dispatch, route: Route) -> None:
        """Hear that a job's side took it. Never waits, never fails."""

    def attempted(self, name: TransportName, *, taken: int, refused: int) -> None:
        """Count what became of attempts to send over `name`."""


def was_sent(job: Job) -> bool:
    """Whether an analysis server's side has taken the job, in its present run."""
    # A version before `sent_at` did not note it.
    return job.sent_at is not None or job.status == JobStatus.QUEUED_FOR_ANALYSIS
