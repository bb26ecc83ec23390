"""Reading what Postgres holds."""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.orm import Session

from headrace_chaos.facts import DirectFact, EventFact, JobFact, LetterFact, ReportFact
from headrace_common.db import Database
from headrace_common.settings import DatabaseSettings
from headrace_common.storage import S3Location

#: Raw, so that the checks do not stand on the code that they check.
_JOBS: Final = text("""
SELECT id, kind, status, progress, run, lane, token_id, input, result, error_code,
    event_sequence, discard_at, run_at
FROM jobs
""")
_EVENTS: Final = text("""
SELECT job_id, sequence, type, status, progress, data, created_at
FROM job_events ORDER BY job_id, sequence
""")
_REPORTS: Final = text("""
SELECT id, job_id, source, payload - 'result' AS payload, applied_at IS NOT NULL AS applied, outcome
FROM webhook_inbox
""")
_LETTERS: Final = text("SELECT id, source, queue, job_id, state, reason FROM dead_letters")
_DIRECT: Final = text("""
SELECT job_id, key, upload_id, completed_at IS NOT NULL AS completed,
    aborted_at IS NOT NULL AS aborted, expires_at < now() AS expired
FROM direct_uploads
""")
_REFERENCES: Final = text("""
SELECT s3_textgrid_url AS url FROM tokens UNION SELECT s3_pitch_url FROM tokens
UNION SELECT input ->> 's3_textgrid_url' FROM jobs UNION SELECT input ->> 's3_pitch_url' FROM jobs
""")
#: Each is a reason why the installation is not quiet yet.
_OPEN: Final = {
    "jobs not final": "SELECT count(*) FROM jobs WHERE finished_at IS NULL",
    "reports not applied": "SELECT count(*) FROM webhook_inbox WHERE applied_at IS NULL "
    "AND (outcome IS NULL OR outcome NOT LIKE 'poisoned: %')",
    "direct uploads open": "SELECT count(*) FROM direct_uploads "
    "WHERE completed_at IS NULL AND aborted_at IS NULL",
    "recordings not discarded": "SELECT count(*) FROM jobs "
    "WHERE discard_at IS NOT NULL AND discarded_at IS NULL",
}


def open_database(settings: Mapping[str, str]) -> Database:
    """Connect, with settings as services get them."""
    values = {"database_url": settings["DATABASE_URL"], "database_pool_size": 2}
    return Database(DatabaseSettings.model_validate(values), application_name="headrace-chaos")


def read_jobs(session: Session) -> dict[str, JobFact]:
    """Return every job."""
    return {row["id"]: JobFact(**row) for row in _rows(session, _JOBS)}


def read_events(session: Session) -> dict[str, list[EventFact]]:
    """Return the timelines."""
    events: dict[str, list[EventFact]] = {}
    for row in _rows(session, _EVENTS):
        events.setdefault(row["job_id"], []).append(EventFact(**row))
    return events


def read_reports(session: Session) -> list[ReportFact]:
    """Return the inbox, without the results."""
    return [ReportFact(**row) for row in _rows(session, _REPORTS)]


def read_letters(session: Session) -> list[LetterFact]:
    """Return the dead letters."""
    return [LetterFact(**row) for row in _rows(session, _LETTERS)]


def read_direct(session: Session) -> list[DirectFact]:
    """Return the direct uploads."""
    return [DirectFact(**row) for row in _rows(session, _DIRECT)]


def read_references(session: Session) -> frozenset[str]:
    """Return the keys of the files that tokens, and jobs that still mean them, name."""
    urls = [row["url"] for row in _rows(session, _REFERENCES)]
    return frozenset(S3Location.parse(url).key for url in urls if url)


def read_open(session: Session) -> dict[str, int]:
    """Return how much is still to be done, by reason."""
    return {reason: int(session.scalar(text(query)) or 0) for reason, query in _OPEN.items()}


def count_missing(session: Session, job_ids: list[str]) -> int:
    """Return how many of these jobs have no row."""
    query = text("SELECT count(*) FROM jobs WHERE id = ANY(:ids)")
    return len(job_ids) - int(session.scalar(query, {"ids": job_ids}) or 0)


def _rows(session: Session, query: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in session.execute(query).mappings()]
