"""Single figures beside the phases: what Postgres does at most, what rows take, whole pages."""

import threading
import time
from typing import Final

import psycopg

from headrace_capacity.measurement import WAL_BYTES, Phase, Work
from headrace_capacity.measuring.driving import Driver
from headrace_capacity.measuring.meters import TABLES
from headrace_capacity.measuring.stand import Stand

_WRITERS: Final = 8
_WRITE_SECONDS: Final = 4.0
_PAGES_JOBS: Final = 60


def most_commits_per_second(url: str) -> float:
    """Return how many transactions with one small insert this Postgres commits a second."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE measured_commits (number bigint, words text)")
    counts: list[int] = []
    end = time.monotonic() + _WRITE_SECONDS

    def write() -> None:
        done = 0
        with psycopg.connect(url, autocommit=True) as connection:
            while time.monotonic() < end:
                connection.execute(
                    "INSERT INTO measured_commits VALUES (%s, %s)", [done, "x" * 200]
                )
                done += 1
        counts.append(done)

    writers = [threading.Thread(target=write) for _ in range(_WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    return sum(counts) / _WRITE_SECONDS


def bytes_per_row(url: str) -> dict[str, float]:
    """Return what a row takes with its indices, by table, once dead rows are gone."""
    found = {}
    with psycopg.connect(url, autocommit=True) as connection:
        for table in TABLES:
            connection.execute(f"VACUUM FULL {table}".encode())
            row = connection.execute(
                f"SELECT pg_total_relation_size('{table}'), count(*) FROM {table}".encode()  # noqa: S608 - names of ours
            ).fetchone()
            if row is None or row[1] == 0:
                raise LookupError(f"{table} is empty")
            found[table] = row[0] / row[1]
    return found


def full_page_factor(stand: Stand, driver: Driver, without: float) -> float:
    """Return how much more WAL there is right after a checkpoint, with pages written whole.

    Args:
        stand: where it is measured.
        driver: makes the jobs.
        without: bytes of a small job over SQS without that.
    """
    database = stand.meters.database
    database.execute("ALTER SYSTEM SET full_page_writes = on")
    database.execute("SELECT pg_reload_conf()")
    time.sleep(0.5)
    database.execute("CHECKPOINT")
    phases: list[Phase] = []
    with stand.phase("whole pages", phases, {Work.JOB_SQS: _PAGES_JOBS}):
        driver.upload(_PAGES_JOBS, mib=0.02, rate=12)
        driver.finish()
    return phases[0].used[WAL_BYTES] / (_PAGES_JOBS * without)
