"""Checks on what goes around: messages, dead letters, and what those saw who followed a job."""

from collections.abc import Iterator
from typing import Final

from headrace_chaos.facts import EventFact, Facts
from headrace_chaos.ledger import Promises, Seen
from headrace_chaos.violations import Violation, ViolationKind

_FINAL: Final = frozenset({"completed", "failed", "cancelled"})


def check_messages(facts: Facts, _promises: Promises) -> Iterator[Violation]:
    """Nothing lies in a queue or a stream when all jobs have ended."""
    for place, count in facts.messages.items():
        yield Violation(ViolationKind.MESSAGE_LEFT, "", f"{place}: {count}")


def check_letters(facts: Facts, _promises: Promises) -> Iterator[Violation]:
    """Whoever's message is among the dead letters has come to an end."""
    for letter in facts.letters:
        job = facts.jobs.get(letter.job_id or "")
        if letter.state == "dead" and job is not None and job.status not in _FINAL:
            sentence = f"it is {job.status}, its letter of {letter.queue}: {letter.reason}"
            yield Violation(ViolationKind.LETTER_OF_OPEN_JOB, job.id, sentence)


def check_followers(facts: Facts, promises: Promises) -> Iterator[Violation]:
    """Whoever followed a job saw every event once, in order, up to an end of it."""
    for seen in promises.seen:
        yield from _follower(seen, facts.events.get(seen.job_id, []))


def _follower(seen: Seen, events: list[EventFact]) -> Iterator[Violation]:
    last = 0
    for sequence, _, _ in seen.events:
        if sequence <= last:
            sentence = f"event {sequence} came after event {last}"
            yield Violation(ViolationKind.STREAM_DOUBLE, seen.job_id, sentence)
        elif sequence > last + 1:
            sentence = f"event {sequence} came after event {last}"
            yield Violation(ViolationKind.STREAM_GAP, seen.job_id, sentence)
        last = max(last, sequence)
    kept = {event.sequence: (event.type, event.status) for event in events}
    for sequence, kind, status in seen.events:
        if kept.get(sequence) != (kind, status):
            sentence = f"event {sequence} was shown as {kind} {status}, it is {kept.get(sequence)}"
            yield Violation(ViolationKind.STREAM_GAP, seen.job_id, sentence)
    if not seen.ended or not any(status in _FINAL for _, _, status in seen.events):
        sentence = f"it saw {len(seen.events)} events, and no end"
        yield Violation(ViolationKind.STREAM_UNENDED, seen.job_id, sentence)
