"""A drill from its beginning to its end."""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Final
from uuid import uuid4

from sqlalchemy import text

from headrace_common.db import Database
from headrace_common.redis_client import redis_client
from headrace_common.settings import DatabaseSettings, RedisSettings
from headrace_drill.beats import Beat, make_beats
from headrace_drill.checker import check, planted
from headrace_drill.faults import Havoc
from headrace_drill.fleet import Fleet
from headrace_drill.gathering import count_unfinished, gather
from headrace_drill.report import Report
from headrace_drill.watch import Watch

_START_SECONDS: Final = 180.0
#: Besides the lease: for the last term to begin, and to work off what came due meanwhile.
_END_SECONDS: Final = 180.0


@dataclass(frozen=True)
class Options:
    """What a drill is told.

    Attributes:
        directory: for logs.
        schedules: how many.
        seconds: how long processes are killed and frozen.
        seed: repeats schedules and faults.
        lease_seconds: of the leader.
        clocks: what each process's clock is off by in seconds.
        pause_seconds: shortest and longest time between faults.
        leader_share: part of the faults that hit whoever leads.
    """

    directory: Path
    schedules: int = 500
    seconds: float = 600
    seed: int = 1
    lease_seconds: float = 15
    clocks: tuple[int, ...] = (300, 0, 0)
    pause_seconds: tuple[float, float] = (3, 6)
    leader_share: float = 0.75


def run(options: Options, servers: Mapping[str, str], *, say: Callable[[str], None]) -> Report:
    """Do it.

    Args:
        options: of the drill.
        servers: DATABASE_URL of a migrated database, REDIS_URL and REDIS_PASSWORD.
        say: told what happens.
    """
    random = Random(options.seed)  # noqa: S311 - it is no secret which process dies
    namespace = f"drill-{uuid4().hex[:8]}"
    environment = {
        **{name: servers[name] for name in ("DATABASE_URL", "REDIS_URL", "REDIS_PASSWORD")},
        "DRAMATIQ_NAMESPACE": namespace,
    }
    settings = DatabaseSettings.model_validate({"database_url": servers["DATABASE_URL"]})
    redis_settings = RedisSettings.model_validate(
        {"redis_url": servers["REDIS_URL"], "redis_password": servers["REDIS_PASSWORD"]}
    )
    fleet = Fleet(
        options.directory, environment, lease_seconds=options.lease_seconds, clocks=options.clocks
    )
    with ExitStack() as stack:
        database = Database(settings)
        stack.callback(database.close)
        client = stack.enter_context(redis_client(redis_settings))
        stack.callback(fleet.stop)
        fleet.start()
        watch = stack.enter_context(Watch(servers["DATABASE_URL"]))
        _wait(lambda: len(fleet.ready()) == len(fleet.members) and watch.leads, _START_SECONDS)
        beats = _make(database, options, random)
        say(f"{len(beats)} schedules, {len(fleet.members)} processes, term {watch.leads[-1].epoch}")
        havoc = Havoc(
            fleet,
            watch,
            servers["DATABASE_URL"],
            random,
            options.lease_seconds,
            options.pause_seconds,
            options.leader_share,
            say,
        )
        havoc.run(options.seconds)
        fleet.start()
        until = _now(database)
        _wait(lambda: count_unfinished(database, until) == 0, options.lease_seconds + _END_SECONDS)
        _pause(database)
        fleet.stop()
        facts = gather(database, client, namespace=namespace, beats=beats, until=until)
    blind = [name for name, wrong in planted(facts).items() if not check(wrong)]
    wrong_clocks = fleet.pids_with_wrong_clocks()
    return Report(
        facts, check(facts), blind, havoc.done, watch.leads, wrong_clocks, options.lease_seconds
    )


def _make(database: Database, options: Options, random: Random) -> list[Beat]:
    with database.begin() as session:
        now: datetime = session.execute(text("SELECT clock_timestamp()")).scalar_one()
        beats = make_beats(options.schedules, now=now, random=random)
        session.add_all(beat.row(now) for beat in beats)
    return beats


def _pause(database: Database) -> None:
    """Let nothing fire any more, so that the facts stay what they are."""
    with database.begin() as session:
        session.execute(
            text("UPDATE schedules SET paused = true, next_fire_at = NULL, next_due_at = NULL")
        )


def _now(database: Database) -> datetime:
    with database.begin() as session:
        now: datetime = session.execute(text("SELECT clock_timestamp()")).scalar_one()
    return now


def _wait(look: Callable[[], object], seconds: float) -> None:
    """Wait until it is so, or the time is over: the check says then what is missing."""
    until = time.monotonic() + seconds
    while not look() and time.monotonic() < until:
        time.sleep(0.1)
