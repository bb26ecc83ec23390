"""Deliveries of entries, and what the server says of them: plain values."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

#: Field names and values as they came.
RawFields = Mapping[bytes, bytes]
AnyFields = Mapping[bytes, bytes] | Mapping[str, str] | Mapping[str, str | bytes]


@dataclass(frozen=True)
class Hold:
    """One delivery of an entry to this consumer.

    Attributes:
        delivery: how often the entry was handed out, this time included.
    """

    entry_id: str
    delivery: int


@dataclass(frozen=True)
class Delivery:
    """An entry that was handed to us; `fields` is what the producer wrote, unread."""

    hold: Hold
    fields: RawFields


@dataclass(frozen=True)
class Claimed:
    """Entries that were pending and are ours now, and ids whose entry somebody deleted."""

    deliveries: list[Delivery]
    deleted: list[str]


@dataclass(frozen=True)
class Promoted:
    """What became of entries whose retry was due.

    Attributes:
        moved: back in the stream.
        buried: unreadable, in the dead letters.
        next_in_seconds: until the next is due; None if none waits.
    """

    moved: int
    buried: int
    next_in_seconds: float | None


class Refusal(StrEnum):
    """Why work on an entry does not begin."""

    #: Another entry of the job is worked on; this one is acknowledged.
    DUPLICATE = "duplicate"
    CANCELLED = "cancelled"
    PAUSED = "paused"


@dataclass(frozen=True)
class Look:
    """What those who work have to know.

    Attributes:
        paused: why the stream is; None while it is not.
        cancelled: entries of cancelled jobs.
        lost: entries that are not ours any more.
    """

    paused: str | None
    cancelled: frozenset[str]
    lost: frozenset[str]
