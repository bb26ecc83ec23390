"""A scheduler whose way to Postgres ends: it steps down, another leads, and nothing is lost."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from itertools import pairwise
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest
from headrace_chaos.modes import Blackhole, Cut
from headrace_chaos.proxy import ProxyHost
from headrace_drill.beats import Beat
from sqlalchemy import select, text

from headrace_common.broker import make_broker
from headrace_common.contracts.schedules import RECOVER_JOBS
from headrace_common.db import Database, Firing
from headrace_common.settings import DatabaseSettings, RedisSettings
from headrace_dispatcher.scheduling.process import Scheduler
from headrace_dispatcher.scheduling.settings import SchedulerSettings
from headrace_local.ports import reserve_port
from headrace_local.pytest_plugin import LocalServers
from headrace_local.waiting import wait_until

_LEASE_SECONDS = 5.0


@pytest.fixture
def redis_settings(local_servers: LocalServers) -> RedisSettings:
    return RedisSettings.model_validate(
        {
            "redis_url": local_servers.redis_url,
            "redis_password": local_servers.redis_password,
            "dramatiq_namespace": f"test-{uuid4().hex}",
        }
    )


@contextmanager
def scheduler(settings: DatabaseSettings, redis: RedisSettings, name: str) -> Iterator[Scheduler]:
    with ExitStack() as stack:
        database = Database(settings)
        stack.callback(database.close)
        broker = make_broker(redis)
        stack.callback(broker.close)
        made = Scheduler(
            database,
            broker,
            SchedulerSettings(scheduler_lease_seconds=_LEASE_SECONDS),
            holder=name,
        )
        made.start()
        stack.callback(made.stop)
        yield made


def every_second(database: Database) -> str:
    """Make a schedule that comes every second."""
    with database.begin() as session:
        now = session.execute(text("SELECT clock_timestamp()")).scalar_one()
        beat = Beat(f"beat-{uuid4()}", now + timedelta(seconds=0.5), 1, is_cron=False)
        row = beat.row(now)
        row.target = row.target_key = RECOVER_JOBS.name
        session.add(row)
    return beat.id


def firings(database: Database, schedule_id: str) -> list[Firing]:
    query = select(Firing).where(Firing.schedule_id == schedule_id).order_by(Firing.fire_at)
    with database.begin() as session:
        return list(session.scalars(query))


def through(settings: DatabaseSettings, port: int) -> DatabaseSettings:
    parts = urlsplit(settings.database_url.get_secret_value().replace("+psycopg", ""))
    place = parts.netloc.rpartition("@")[0]
    netloc = f"{place}@127.0.0.1:{port}" if place else f"127.0.0.1:{port}"
    url = urlunsplit(parts._replace(netloc=netloc))
    return DatabaseSettings.model_validate({"database_url": url})


def fires_on(database: Database, schedule_id: str, *, epoch: int) -> list[Firing]:
    """Wait until that term fires, and return all that fired."""
    found = wait_until(
        lambda: firings(database, schedule_id),
        lambda seen: bool(seen) and seen[-1].epoch >= epoch,
    )
    gaps = {(b.fire_at - a.fire_at).total_seconds() for a, b in pairwise(found)}
    assert gaps <= {1.0}
    assert {firing.origin for firing in found} == {"schedule"}
    return found


@pytest.mark.parametrize("mode", [Blackhole(), Cut()])
def test_a_leader_that_is_cut_off_steps_down_and_another_leads(
    fresh_database: DatabaseSettings,
    database: Database,
    redis_settings: RedisSettings,
    mode: Blackhole | Cut,
) -> None:
    with ProxyHost() as proxies, ExitStack() as stack:
        server = urlsplit(fresh_database.database_url.get_secret_value()).port
        assert server is not None
        proxy = proxies.add("postgres", reserve_port(), server)
        far = stack.enter_context(
            scheduler(through(fresh_database, proxy.port), redis_settings, "far")
        )
        wait_until(lambda: far.epoch)
        near = stack.enter_context(scheduler(fresh_database, redis_settings, "near"))
        schedule_id = every_second(database)
        wait_until(lambda: firings(database, schedule_id))

        proxy.set(mode)
        wait_until(lambda: near.epoch, seconds=_LEASE_SECONDS + 20)
        wait_until(lambda: far.epoch is None, seconds=_LEASE_SECONDS + 20)
        with pytest.raises(RuntimeError):
            wait_until(lambda: far.check() and None)

        proxy.heal()
        wait_until(lambda: _check(far) == "stands by")
        assert near.epoch == 2
        found = fires_on(database, schedule_id, epoch=2)
        assert [it.epoch for it in found] == sorted(it.epoch for it in found)


def _check(it: Scheduler) -> str:
    try:
        return it.check().partition(",")[0]
    except RuntimeError as error:
        return str(error)


def test_postgres_restarts_and_somebody_leads_again(
    local_servers: LocalServers,
    fresh_database: DatabaseSettings,
    database: Database,
    redis_settings: RedisSettings,
) -> None:
    with ExitStack() as stack:
        for name in ("a", "b"):
            stack.enter_context(scheduler(fresh_database, redis_settings, name))
        schedule_id = every_second(database)
        wait_until(lambda: firings(database, schedule_id))
        local_servers.restart("postgres")
        found = fires_on(database, schedule_id, epoch=2)
        assert len(found) >= 2
