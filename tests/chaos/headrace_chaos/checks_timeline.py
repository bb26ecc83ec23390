"""Checks on the timelines: legal, without gaps, one end a run, each report once.

The rules are written down here once more, and not taken from the product: a check that asks the
code under test agrees with whatever that does.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from headrace_chaos.facts import EventFact, Facts, JobFact, ReportFact
from headrace_chaos.ledger import Entry, Promises
from headrace_chaos.violations import Violation, ViolationKind

_RANK: Final = {
    "uploading": 0,
    "scheduled": 1,
    "queuing": 2,
    "queued": 3,
    "processing": 4,
    "queued_for_analysis": 5,
    "completed": 6,
    "failed": 6,
    "cancelled": 6,
}
_FINAL: Final = frozenset({"completed", "failed", "cancelled"})
_FIRST: Final = frozenset({"uploading", "queuing", "queued"})
#: What may follow these: without its recording, or before its time, a job goes nowhere else.
_AFTER: Final = {
    "uploading": frozenset(
        {"uploading", "scheduled", "queuing", "queued", "failed", "cancelled"},
    ),
    "scheduled": frozenset({"queued", "failed", "cancelled"}),
}
_RESTARTED: Final = frozenset({"queuing", "queued"})
#: Words of analysis servers that mean `completed`.
_COMPLETED_WORDS: Final = frozenset({"completed", "success", "succeeded", "complete", "done"})


def check_timelines(facts: Facts, promises: Promises) -> Iterator[Violation]:
    """Every job's timeline is one that may be."""
    for job in facts.jobs.values():
        events = facts.events.get(job.id, [])
        yield from _sequence(job, events)
        yield from _walk(job, events)
        promise = promises.jobs.get(job.id)
        if promise is None or all(deed.what is not Entry.RETRY for deed in promise.deeds):
            yield from _early(job, events)
    for job_id in facts.events.keys() - facts.jobs.keys():
        yield Violation(ViolationKind.GAP_IN_TIMELINE, job_id, "events of a job without a row")


def check_reports(facts: Facts, _promises: Promises) -> Iterator[Violation]:
    """Every report was applied, and had its effect once."""
    buried = {letter.job_id for letter in facts.letters if letter.source == "webhook"}
    for report in facts.reports:
        if not report.applied and report.job_id not in buried:
            sentence = f"report {report.id} ({report.source}) waits: {report.outcome}"
            yield Violation(ViolationKind.REPORT_UNAPPLIED, report.job_id, sentence)
    by_job: dict[str, list[ReportFact]] = {}
    for report in facts.reports:
        by_job.setdefault(report.job_id, []).append(report)
    for job_id, events in facts.events.items():
        yield from _effects(job_id, events, by_job.get(job_id, []))


def _sequence(job: JobFact, events: Sequence[EventFact]) -> Iterator[Violation]:
    found = [event.sequence for event in events]
    if found != list(range(1, len(found) + 1)):
        yield Violation(ViolationKind.GAP_IN_TIMELINE, job.id, f"its events are {_short(found)}")
    elif job.event_sequence != len(found):
        sentence = f"its row counts {job.event_sequence} events, there are {len(found)}"
        yield Violation(ViolationKind.GAP_IN_TIMELINE, job.id, sentence)
    told = [event for event in events if not event.is_ignored]
    if told and told[-1].status != job.status:
        sentence = f"its row is {job.status}, its last event {told[-1].status}"
        yield Violation(ViolationKind.GAP_IN_TIMELINE, job.id, sentence)


def _walk(job: JobFact, events: Sequence[EventFact]) -> Iterator[Violation]:
    """Compare each event with the one before it."""
    previous: EventFact | None = None
    for event in events:
        if previous is None:
            if event.status not in _FIRST:
                sentence = f"it begins {event.status}"
                yield Violation(ViolationKind.ILLEGAL_TRANSITION, job.id, sentence)
        elif event.is_ignored:
            if (event.status, event.progress) != (previous.status, previous.progress):
                sentence = f"event {event.sequence} was ignored, and changed the job all the same"
                yield Violation(ViolationKind.ILLEGAL_TRANSITION, job.id, sentence)
        elif event.type == "restarted":
            yield from _restart(event, previous)
        else:
            yield from _step(event, previous)
        previous = event
    runs = 1 + sum(event.type == "restarted" for event in events)
    if events and runs != job.run:
        sentence = f"its row is in run {job.run}, its timeline in run {runs}"
        yield Violation(ViolationKind.GAP_IN_TIMELINE, job.id, sentence)


def _early(job: JobFact, events: Sequence[EventFact]) -> Iterator[Violation]:
    """Compare when it was queued with when it was to be; both by the database's clock."""
    for previous, event in pairwise(events):
        if job.run_at is None or (previous.status, event.status) != ("scheduled", "queued"):
            continue
        if event.created_at < job.run_at:
            early = (job.run_at - event.created_at).total_seconds()
            yield Violation(ViolationKind.BEGAN_EARLY, job.id, f"it was queued {early:.1f} s early")


def _restart(event: EventFact, previous: EventFact) -> Iterator[Violation]:
    if previous.status in _AFTER or event.status not in _RESTARTED:
        sentence = f"event {event.sequence} restarts from {previous.status} to {event.status}"
        yield Violation(ViolationKind.ILLEGAL_TRANSITION, event.job_id, sentence)


def _step(event: EventFact, previous: EventFact) -> Iterator[Violation]:
    step = f"event {event.sequence}: {previous.status} to {event.status}"
    if previous.status in _FINAL:
        # The end of a run is the last that happens in it.
        ends_again = event.status in _FINAL
        kind = ViolationKind.DOUBLED_END if ends_again else ViolationKind.AFTER_THE_END
        yield Violation(kind, event.job_id, step)
    elif _RANK.get(event.status, -1) < _RANK[previous.status] or (
        event.status not in _AFTER.get(previous.status, _RANK)
    ):
        yield Violation(ViolationKind.ILLEGAL_TRANSITION, event.job_id, step)
    if event.progress < previous.progress:
        sentence = f"event {event.sequence}: {previous.progress} to {event.progress} per cent"
        yield Violation(ViolationKind.PROGRESS_FELL, event.job_id, sentence)


def _effects(
    job_id: str, events: Sequence[EventFact], reports: Sequence[ReportFact]
) -> Iterator[Violation]:
    """Each applied report accounts for one event, a change or an ignored one, at most."""
    says_completed = sum(report.applied and _word(report) in _COMPLETED_WORDS for report in reports)
    ends = sum(
        event.data.get("ignored_status") == "completed"
        if event.is_ignored
        else event.status == "completed"
        for event in events
    )
    if ends > says_completed:
        sentence = f"{says_completed} reports of its completion had {ends} effects"
        yield Violation(ViolationKind.DOUBLED_REPORT, job_id, sentence)


def _word(report: ReportFact) -> str:
    """Return what a report says: an analysis server's `status`, or the preprocessor's `state`."""
    name = "state" if report.source == "stream" else "status"
    return str(report.payload.get(name)).lower()


def _short(numbers: Sequence[int]) -> str:
    text = ", ".join(map(str, numbers[:20]))
    return text + (" ..." if len(numbers) > 20 else "")
