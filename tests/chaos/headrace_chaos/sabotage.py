"""`python -m headrace_chaos.sabotage MODULE`: a service with a bug, as its own code might have it.

Runs the module as it is, but for the bug that the file named by HEADRACE_SABOTAGE names; a restart
reads the file anew.
"""

# ruff: noqa: PLC0415 - each bug loads nothing but the service that it is for

import os
import runpy
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

from headrace_chaos.violations import ViolationKind as Kind

FILE_VARIABLE: Final = "HEADRACE_SABOTAGE"
_DISPATCHER: Final = "headrace_dispatcher"
_RESULTS: Final = "headrace_results"
_INGEST: Final = "headrace_ingest_api"
_ANALYSIS: Final = "speech_analysis_server"
_PREPROCESSOR: Final = "headrace_gpu_preprocessor"
#: Long enough for a kill to come in between.
_LATE_SECONDS: Final = 8.0
_EVERY: Final = 4
#: For a class that is imported where it is patched, once the service runs.
_Patched = Any


@dataclass(frozen=True)
class Sabotage:
    """A bug in the code of a service.

    Attributes:
        name: what is wrong.
        module: of the service.
        kinds: any of these the checker has to find.
        apply: puts the bug into the running process.
        kills: whether the service has to be killed for the bug to show.
    """

    name: str
    module: str
    kinds: frozenset[Kind]
    apply: Callable[[], None]
    kills: bool = False


def _acknowledge_early() -> None:
    """A message is acknowledged before its job is handed on, and nobody looks for lost ones."""
    from headrace_dispatcher.dispatch import Dispatching
    from headrace_dispatcher.sweep import Sweep

    run = Dispatching.run

    def late(self: _Patched, *args: Any) -> None:
        threading.Timer(_LATE_SECONDS, run, (self, *args)).start()

    _set(Dispatching, "run", late)
    _set(Sweep, "run", lambda *_: {})


def _apply_twice() -> None:
    """A report has its effect, and is not marked as applied in the same transaction."""
    from sqlalchemy import update

    from headrace_common.db import InboxReport
    from headrace_results.applier import ReportApplier

    once = ReportApplier._apply_once

    def twice(self: _Patched, inbox_id: int) -> None:
        once(self, inbox_id)
        with self._database.begin() as session:
            unmarked = update(InboxReport).where(InboxReport.id == inbox_id)
            session.execute(unmarked.values(applied_at=None))
        once(self, inbox_id)

    _set(ReportApplier, "_apply_once", twice)


def _guard_nothing() -> None:
    """Whatever is reported last counts, wherever the job is."""
    from headrace_common.contracts import JobStatus
    from headrace_common.jobs import Change

    _set(Change, "allowed_from", lambda _self: frozenset(JobStatus))


def _skip_events() -> None:
    """Now and then an event is not shown to those who follow."""
    from headrace_results.stream import EventStreams

    events = EventStreams.events

    async def some(self: _Patched, watch: Any) -> Any:
        async for event in events(self, watch):
            if event.id is None or int(event.id) % _EVERY:
                yield event

    _set(EventStreams, "events", some)


def _forget_keys() -> None:
    """A request that comes twice is done twice."""
    from headrace_ingest_api.idempotency import IdempotencyKeys

    _set(IdempotencyKeys, "claim", lambda _self, _claim: None)
    _set(IdempotencyKeys, "complete_in", lambda *_: None)


def _promise_early() -> None:
    """Some jobs are promised before they are durable, and then they are not."""
    from sqlalchemy import delete

    from headrace_common.db import Job
    from headrace_ingest_api.jobs import UploadJobs

    queue = UploadJobs.queue
    numbers = count()

    def promised(self: _Patched, stored: Any, claim: Any) -> Any:
        answer = queue(self, stored, claim)
        if next(numbers) % _EVERY == 0:
            with self._database.begin() as session:
                session.execute(delete(Job).where(Job.id == answer.job_id))
        return answer

    _set(UploadJobs, "queue", promised)


def _answer_for_another() -> None:
    """An analysis server mixes its recordings up."""
    from speech_analysis_server.handler import SpeechAnalysis

    handle = SpeechAnalysis.__call__
    before: list[Any] = []

    def mixed(self: _Patched, task: Any) -> Any:
        before.append(handle(self, task))
        return before[-2] if len(before) > 1 else before[-1]

    _set(SpeechAnalysis, "__call__", mixed)


def _overwrite_an_artifact() -> None:
    """A picture of a set that is whole is written once more."""
    from headrace_common.contracts.cctv import ArtifactName
    from headrace_gpu_preprocessor.artifacts.unfinished import UnfinishedSet

    finish = UnfinishedSet.finish

    def overwritten(self: _Patched, facts: Any) -> Any:
        whole = finish(self, facts)
        name = ArtifactName.DAMAGE_RESULT
        whole.store.put(whole.folder + name, b"another picture", name.content_type)
        return whole

    _set(UnfinishedSet, "finish", overwritten)


SABOTAGES: Final = (
    Sabotage(
        "acknowledges before the effect, and forgets the sweep",
        _DISPATCHER,
        frozenset({Kind.STUCK}),
        _acknowledge_early,
        kills=True,
    ),
    Sabotage("applies a report twice", _RESULTS, frozenset({Kind.DOUBLED_REPORT}), _apply_twice),
    Sabotage(
        "lets the last report win",
        _RESULTS,
        frozenset({Kind.DOUBLED_END, Kind.AFTER_THE_END, Kind.WRONG_END}),
        _guard_nothing,
    ),
    Sabotage("skips events of a stream", _RESULTS, frozenset({Kind.STREAM_GAP}), _skip_events),
    Sabotage("forgets idempotency keys", _INGEST, frozenset({Kind.DOUBLED_JOB}), _forget_keys),
    Sabotage("promises before the commit", _INGEST, frozenset({Kind.LOST}), _promise_early),
    Sabotage(
        "answers for another recording",
        _ANALYSIS,
        frozenset({Kind.WRONG_RESULT}),
        _answer_for_another,
    ),
    Sabotage(
        "overwrites an artefact",
        _PREPROCESSOR,
        frozenset({Kind.SET_NOT_WHOLE}),
        _overwrite_an_artifact,
    ),
)


def _set(owner: Any, name: str, value: Any) -> None:
    """Replace what an imported class has, which no type checker likes."""
    setattr(owner, name, value)


def _wanted(module: str) -> Iterator[Sabotage]:
    with suppress(FileNotFoundError):
        name = Path(os.environ[FILE_VARIABLE]).read_text()
        yield from (each for each in SABOTAGES if (each.name, each.module) == (name, module))


def main() -> None:
    """Run the service that the command line names."""
    module = sys.argv[1]
    for sabotage in _wanted(module):
        sabotage.apply()
    sys.argv = sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
