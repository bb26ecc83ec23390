"""A job on its way in: what the runner needs to know of it, and how it is settled."""

from collections.abc import Callable, Mapping
from typing import Protocol

from headrace_analysis.callback import Callback
from headrace_analysis.outcome import Settlement
from headrace_common.contracts import AnalysisRequest


class Delivery(Protocol):
    """One delivery of one job, over whatever transport."""

    @property
    def transport(self) -> str:
        """`sqs` or `http`."""
        ...

    @property
    def queue(self) -> str:
        """Name of the queue that it came from."""
        ...

    @property
    def sent_ms(self) -> int | None:
        """When it began to wait there, in milliseconds since 1970, where that is known."""
        ...

    @property
    def delivery_id(self) -> str:
        """The same for every delivery of the same message."""
        ...

    @property
    def attempt(self) -> int:
        """From 1."""
        ...

    @property
    def trace(self) -> Mapping[str, str]:
        """W3C trace-context fields that came along."""
        ...

    @property
    def request(self) -> AnalysisRequest | None:
        """The job; None where the message is malformed."""
        ...

    @property
    def callback(self) -> Callback | None:
        """Whom to tell; None where a malformed message does not say."""
        ...

    def watch(self, on_lost: Callable[[], None], *, seconds: float) -> None:
        """Keep the message ours for up to `seconds` of work; tell when it is not any more."""
        ...

    def settle(self, settlement: Settlement, delay: float) -> None:
        """End the delivery; `delay` is the wait before a retry, in seconds."""
        ...
