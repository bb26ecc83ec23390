"""Ways to an analysis server, behind one interface: SQS, and plain HTTP (A9)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from pydantic import JsonValue

from headrace_common.contracts.analysis import AnalysisRequest
from headrace_common.contracts.lanes import Lane


class TransportName(StrEnum):
    """A way to an analysis server."""

    SQS = "sqs"
    HTTP = "http"


@dataclass(frozen=True)
class Dispatch:
    """A job on its way to an analysis server.

    Attributes:
        request: what the server gets.
        lane: decides the queue.
        trace: W3C trace context to go along.
        metadata: for the job, once it is taken.
        run: of the job.
    """

    request: AnalysisRequest
    lane: Lane
    trace: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, JsonValue] = field(default_factory=dict)
    run: int = 1


@dataclass(frozen=True)
class Receipt:
    """An analysis server's side has taken a job.

    Attributes:
        metadata: for the job, such as `sqs_message_id`.
        noted: whether the job's row says so; not where the job had gone on or ended meanwhile.
    """

    metadata: dict[str, JsonValue]
    noted: bool = False


class TransportError(Exception):
    """A job was not taken.

    Attributes:
        retryable: whether trying again can help.
        systemic: the other side is at fault, whichever job it had been; not set where the job
            may be, because it makes the other side fail.
        retry_after: seconds that the other side asked to wait.
    """

    def __init__(
        self,
        reason: str,
        *,
        retryable: bool,
        systemic: bool = False,
        retry_after: float | None = None,
    ) -> None:
        """Make the error with a reason that people can read."""
        super().__init__(reason)
        self.reason = reason
        self.retryable = retryable
        self.systemic = systemic
        self.retry_after = retry_after


class Transport(Protocol):
    """A way to an analysis server. Safe to use from several threads."""

    name: TransportName
    #: Most dispatches that `send` takes at once.
    max_entries: int
    #: Most bytes that they may have together.
    max_bytes: int

    def destinations(self) -> Sequence[str]:
        """Return every place it sends to; what goes to one may go in one batch."""

    def destination(self, lane: Lane) -> str:
        """Return where a job of `lane` goes."""

    def send(self, destination: str, batch: Sequence[Dispatch]) -> list[Receipt | TransportError]:
        """Send `batch` and say for each what became of it, in order.

        Raises:
            TransportError: none of them was taken.
        """

    def close(self) -> None:
        """Close its connections."""


def wire_size(dispatch: Dispatch) -> int:
    """Return the bytes that a dispatch counts for: body and attributes, as SQS counts them."""
    attributes = AnalysisRequest.attributes(dispatch.lane, dispatch.trace)
    return len(dispatch.request.body().encode()) + sum(
        len(name) + len(value["DataType"]) + len(value["StringValue"])
        for name, value in attributes.items()
    )
