"""What a proxy does with the connections through it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Pass:
    """Everything goes through."""


@dataclass(frozen=True)
class Cut:
    """Connections are reset, and new ones refused: nobody listens."""


@dataclass(frozen=True)
class Blackhole:
    """Nothing moves any more and nothing is closed, as when packets are lost on the way.

    When it ends, what was sent meanwhile arrives.
    """


@dataclass(frozen=True)
class Slow:
    """Everything arrives late, and little of it.

    Attributes:
        delay_seconds: of each piece of data.
        bytes_per_second: of each direction of a connection.
    """

    delay_seconds: float
    bytes_per_second: float


@dataclass(frozen=True)
class Reset:
    """Connections are reset, and each new one within so many seconds."""

    within_seconds: float


@dataclass(frozen=True)
class HttpErrors:
    """A share of the HTTP requests on new connections fails; the connections of before are reset.

    Attributes:
        rate: share of the requests, 0 to 1.
        status: of the answers.
        retry_after: seconds in their `Retry-After`, if they have one.
        done_share: share of these failures for which the server does what it was asked to and
            only its answer is replaced.
    """

    rate: float
    status: int
    retry_after: int | None = None
    done_share: float = 0.0


Mode = Pass | Cut | Blackhole | Slow | Reset | HttpErrors
