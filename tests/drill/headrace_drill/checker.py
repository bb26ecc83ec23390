"""Whether every due time fired once and had one effect. Pure: from facts to what they violate."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from headrace_drill.beats import Beat

#: A violation tells of so many cases.
_EXAMPLES: Final = 5


@dataclass(frozen=True)
class FiringFact:
    """A row of a firing."""

    id: int
    schedule_id: str
    fire_at: datetime
    due_at: datetime
    fired_at: datetime
    sent_at: datetime | None
    origin: str
    state: str
    epoch: int
    message_id: str | None

    @property
    def drift_seconds(self) -> float:
        """From when it was due until it was recorded."""
        return (self.fired_at - self.due_at).total_seconds()


@dataclass(frozen=True)
class MessageFact:
    """A place in the queue; one message that stands there twice is two of them."""

    message_id: str
    firing_id: int
    fire_at: datetime


@dataclass(frozen=True)
class Facts:
    """All that the end of a drill shows."""

    beats: Sequence[Beat]
    until: datetime
    firings: Sequence[FiringFact]
    messages: Sequence[MessageFact]


@dataclass(frozen=True)
class Violation:
    """Something that must not be."""

    rule: str
    cases: int
    examples: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.rule}: {self.cases} cases, {'; '.join(self.examples)}"


def check(facts: Facts) -> list[Violation]:
    """Return what the facts violate."""
    rules = {
        "a due time did not fire": _missing(facts),
        "something fired that was not due": _uncalled(facts),
        "a due time fired twice": _twice(facts),
        "a firing did not end, or not as planned": _unfinished(facts),
        "a firing was early": _early(facts),
        "a former leader recorded something": _epochs(facts),
        "a firing had no effect": _without_message(facts),
        "a firing had two effects": _with_messages(facts),
        "a message of nobody's": _strange_messages(facts),
    }
    return [
        Violation(rule, len(cases), tuple(cases[:_EXAMPLES]))
        for rule, found in rules.items()
        if (cases := list(found))
    ]


def planted(facts: Facts) -> dict[str, Facts]:
    """Return the facts with one fault each, which the check has to find."""
    firings, messages = list(facts.firings), list(facts.messages)
    middle = firings[len(firings) // 2]
    ages = sorted(firings, key=lambda firing: firing.id)
    return {
        "a row removed": replace(facts, firings=[it for it in firings if it is not middle]),
        "a row doubled": replace(
            facts,
            firings=[*firings, replace(middle, id=ages[-1].id + 1, epoch=ages[-1].epoch)],
        ),
        "a message doubled": replace(facts, messages=[*messages, messages[0]]),
        "a message removed": replace(facts, messages=messages[1:]),
        "a row of a former term": replace(
            facts, firings=[*ages[:-1], replace(ages[-1], epoch=ages[0].epoch - 1)]
        ),
        "a row left pending": replace(
            facts, firings=[*ages[:-1], replace(ages[-1], state="pending")]
        ),
    }


def _missing(facts: Facts) -> Iterator[str]:
    seen = {(firing.schedule_id, firing.fire_at) for firing in facts.firings}
    for beat in facts.beats:
        for time in beat.times(facts.until):
            if (beat.id, time) not in seen:
                yield f"{beat.id} at {time}"


def _uncalled(facts: Facts) -> Iterator[str]:
    called = {(beat.id, time) for beat in facts.beats for time in beat.times(facts.until)}
    for firing in facts.firings:
        if (firing.schedule_id, firing.fire_at) not in called:
            yield f"{firing.schedule_id} at {firing.fire_at}"


def _twice(facts: Facts) -> Iterator[str]:
    counts = Counter((firing.schedule_id, firing.fire_at) for firing in facts.firings)
    for (schedule_id, fire_at), count in counts.items():
        if count > 1:
            yield f"{schedule_id} at {fire_at}: {count} rows"


def _unfinished(facts: Facts) -> Iterator[str]:
    for firing in facts.firings:
        if (firing.origin, firing.state) != ("schedule", "succeeded"):
            yield f"{firing.schedule_id} at {firing.fire_at}: {firing.origin}, {firing.state}"


def _early(facts: Facts) -> Iterator[str]:
    for firing in facts.firings:
        if firing.drift_seconds < 0:
            yield f"{firing.schedule_id} at {firing.fire_at}: {firing.drift_seconds} s"


def _epochs(facts: Facts) -> Iterator[str]:
    """Ids are given as rows are written, so that terms follow each other along them."""
    newest = 0
    for firing in sorted(facts.firings, key=lambda firing: firing.id):
        if firing.epoch < newest:
            yield f"firing {firing.id} of term {firing.epoch} after one of term {newest}"
        newest = max(newest, firing.epoch)


def _without_message(facts: Facts) -> Iterator[str]:
    sent = {(message.firing_id, message.fire_at) for message in facts.messages}
    for firing in facts.firings:
        if (firing.id, firing.fire_at) not in sent:
            yield f"firing {firing.id}, {firing.schedule_id} at {firing.fire_at}"


def _with_messages(facts: Facts) -> Iterator[str]:
    places: defaultdict[int, list[str]] = defaultdict(list)
    for message in facts.messages:
        places[message.firing_id].append(message.message_id)
    for firing_id, ids in places.items():
        if len(ids) > 1:
            yield f"firing {firing_id}: {', '.join(ids)}"


def _strange_messages(facts: Facts) -> Iterator[str]:
    known = {(firing.id, firing.message_id) for firing in facts.firings}
    for message in facts.messages:
        if message.fire_at <= facts.until and (message.firing_id, message.message_id) not in known:
            yield f"message {message.message_id} of firing {message.firing_id}"
