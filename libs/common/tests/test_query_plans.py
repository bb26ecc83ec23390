"""Questions about jobs read few pages, however many jobs there are."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.orm import Session

from headrace_common.contracts.jobs import JobKind, JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_common.db import Database
from headrace_common.jobs import JobFilter, JobQueries
from headrace_common.settings import DatabaseSettings

#: Enough that going through all of them is told from reading an index: 3,000 pages.
JOBS = 30_000
#: Waiting in the normal lane.
QUEUED = 4_000

# The rare ones (CCTV jobs, the low lane) are the oldest: the worst case for a search from the new
# end.
_FILL = text("""
INSERT INTO jobs (id, kind, status, progress, message, lane, token_id, input, created_at,
                  stage_entered_at, queued_at, finished_at)
SELECT 'job-' || g, CASE WHEN g <= 100 THEN 'cctv_preprocess' ELSE 'audio_analysis' END, status,
       50, 'message', CASE WHEN g <= 100 THEN 'low' ELSE 'normal' END, 'token-' || g % 300,
       jsonb_build_object('filler', repeat('x', 600)), now() - (:jobs - g) * interval '1 second',
       now() - (:jobs - g) * interval '1 second', now() - (:jobs - g) * interval '1 second',
       CASE WHEN status <> 'queued' THEN now() END
FROM generate_series(1, :jobs) AS g, LATERAL (SELECT CASE
    WHEN g > :jobs - :queued THEN 'queued' WHEN g % 4 = 0 THEN 'failed' ELSE 'completed' END
    AS status) AS s
""")


@pytest.fixture
def many_jobs(database: Database, fresh_database: DatabaseSettings) -> Database:
    # Without the time-outs of ours: it is much, and a machine may be slow.
    engine = create_engine(fresh_database.database_url.get_secret_value())
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(_FILL, {"jobs": JOBS, "queued": QUEUED})
        connection.execute(text("VACUUM ANALYZE jobs"))
    engine.dispose()
    return database


@dataclass
class Statements:
    """What was asked of the server."""

    seen: list[tuple[str, Any]] = field(default_factory=list)


@contextmanager
def watching(session: Session) -> Iterator[Statements]:
    statements = Statements()

    def note(_connection: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        statements.seen.append((statement, values))

    connection = session.connection()
    event.listen(connection, "before_cursor_execute", note)
    yield statements
    event.remove(connection, "before_cursor_execute", note)


def pages_read(database: Database, ask: Callable[[JobQueries], object]) -> int:
    """Return how many pages of the database the questions of `ask` touch."""
    pages = 0
    with database.begin() as session:
        with watching(session) as statements:
            ask(JobQueries(session))
        for statement, values in statements.seen:
            explained = session.connection().exec_driver_sql(
                f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", values
            )
            plan = explained.scalar_one()[0]["Plan"]
            pages += plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    return pages


def test_lists_read_a_page_of_jobs_and_not_all(many_jobs: Database) -> None:
    filters = [
        JobFilter(),
        JobFilter(statuses=(JobStatus.COMPLETED,)),
        JobFilter(statuses=(JobStatus.PROCESSING,)),
        JobFilter(statuses=JobStatus.open()),
        JobFilter(kind=JobKind.AUDIO_ANALYSIS),
        JobFilter(kind=JobKind.CCTV_PREPROCESS),
        JobFilter(lane=Lane.LOW),
        JobFilter(lane=Lane.HIGH),
        JobFilter(lane=Lane.HIGH, kind=JobKind.CCTV_PREPROCESS),
        JobFilter(token_id="token-7"),
        JobFilter(token_id="nobody"),
    ]
    for wanted in filters:
        pages = pages_read(many_jobs, partial(JobQueries.page, wanted=wanted, limit=50))
        assert pages < 1_000, wanted


def test_counting_the_lanes_reads_no_job(many_jobs: Database) -> None:
    assert pages_read(many_jobs, JobQueries.lane_counts) < 100


def test_places_cost_the_same_for_one_client_as_for_many(many_jobs: Database) -> None:
    last = [f"job-{number}" for number in range(JOBS - 999, JOBS + 1)]
    one = pages_read(many_jobs, lambda queries: queries.places(last[-1:]))
    many = pages_read(many_jobs, lambda queries: queries.places(last))
    assert many < one + 4 * len(last), "a look-up each, and one walk through the lane"
    with many_jobs.begin() as session:
        places = JobQueries(session).places(last)
    assert places == {job_id: QUEUED - 999 + index for index, job_id in enumerate(last)}
