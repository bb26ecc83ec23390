"""Entries of the job stream become rows before they are acknowledged.

A batch is one transaction; what is wrong with one entry is undone alone. Rows are locked in the
order of the jobs' ids, so that two replicas cannot deadlock.
"""

from collections.abc import Sequence
from typing import Final

import redis
import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from headrace_common.contracts import JobEvent
from headrace_common.contracts.cctv import RESULTS_GROUP, MalformedEntryError, PreprocessEntry
from headrace_common.db import Database, Job
from headrace_common.jobs import JobStore, Outcome
from headrace_common.telemetry.messaging import MessagingSystem, processing
from headrace_common.telemetry.secrets import without_url_values
from headrace_common.telemetry.trace import trace_of_job
from headrace_results.cameras.apply import change_for_entry
from headrace_results.cameras.groups import DATABASE_AWAY, StreamEntry
from headrace_results.cameras.rows import job_of, state_of
from headrace_results.cameras.whereabouts import Whereabouts
from headrace_results.metrics import CAMERA_ENTRIES
from headrace_results.reports import storable

log = structlog.get_logger()

#: An entry with more fields is none of ours; the workers say the same.
_MOST_FIELDS: Final = 100


class EntryIntake:
    """Takes entries of the job stream: a job is seen before a worker has touched it."""

    def __init__(
        self,
        client: redis.Redis,
        database: Database,
        store: JobStore,
        whereabouts: Whereabouts,
        *,
        stream: str,
    ) -> None:
        """Acknowledge through `client` what `store` has in `database`."""
        self._client = client
        self._database = database
        self._store = store
        self._whereabouts = whereabouts
        self._stream = stream

    def take(self, entries: Sequence[StreamEntry]) -> None:
        """Make rows of entries, and acknowledge them for this group alone."""
        # What the workers are done with is history, of a time without us perhaps. If it is a job
        # of ours, the reports on it tell more.
        done = self._whereabouts.done([entry.id for entry in entries])
        readable = [
            (entry.id, parsed)
            for entry in entries
            if entry.id not in done and (parsed := _read_entry(entry)) is not None
        ]
        readable.sort(key=lambda pair: pair[1].job_id)
        created: list[JobEvent] = []
        changed: list[Outcome] = []
        with self._database.begin() as session:
            for entry_id, parsed in readable:
                match self._kept(session, entry_id, parsed):
                    case JobEvent() as event:
                        created.append(event)
                    case Outcome() as outcome:
                        changed.append(outcome)
        self._store.publish_events(created)
        self._store.publish(changed)
        self._client.xack(self._stream, RESULTS_GROUP, *(entry.id for entry in entries))
        CAMERA_ENTRIES.labels(outcome="new").inc(len(created))
        CAMERA_ENTRIES.labels(outcome="done").inc(len(done))

    def _kept(
        self, session: Session, entry_id: str, entry: PreprocessEntry
    ) -> JobEvent | Outcome | None:
        try:
            with (
                processing(
                    entry.trace or trace_of_job(entry.job_id),
                    MessagingSystem.STREAM,
                    self._stream,
                    message_id=entry_id,
                    group=RESULTS_GROUP,
                    job_id=entry.job_id,
                ),
                session.begin_nested(),
            ):
                return self._keep(session, entry_id, entry)
        except DATABASE_AWAY:
            raise
        except Exception:
            # One entry must not hold up all others.
            log.exception("camera.entry_not_kept", entry_id=entry_id)
            CAMERA_ENTRIES.labels(outcome="refused").inc()
            return None

    def _keep(
        self, session: Session, entry_id: str, entry: PreprocessEntry
    ) -> JobEvent | Outcome | None:
        created = self._store.create_missing_in(session, job_of(entry, entry_id))
        if created is not None:
            return created
        job = session.scalars(select(Job).where(Job.id == entry.job_id).with_for_update()).one()
        change = change_for_entry(entry, entry_id, state_of(job))
        return None if change is None else self._store.apply_in(session, [change])[0]


def _read_entry(entry: StreamEntry) -> PreprocessEntry | None:
    """Read an entry; None for one that is no job: the worker's dead letters tell of it."""
    try:
        texts = {name.decode(): value.decode() for name, value in entry.fields.items()}
        if len(texts) <= _MOST_FIELDS:
            return PreprocessEntry.parse(storable(texts))
        reason = f"more than {_MOST_FIELDS} fields"
    except (UnicodeDecodeError, MalformedEntryError) as error:
        reason = without_url_values(str(error))
    log.warning("camera.entry_malformed", entry_id=entry.id, reason=reason)
    CAMERA_ENTRIES.labels(outcome="malformed").inc()
    return None
