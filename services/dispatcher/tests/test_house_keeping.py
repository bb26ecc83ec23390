"""The built-in schedules, and the house-keeping that the dispatcher performs."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from dispatcher_scene import Scene, running
from dramatiq import Message
from sqlalchemy import func, select

from headrace_common.broker import send
from headrace_common.contracts.jobs import JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_common.contracts.schedules import RECOVER_JOBS, PerformFiring, target_contracts
from headrace_common.db import (
    AuditEntry,
    Base,
    Database,
    DeadLetter,
    Firing,
    IdempotencyKey,
    InboxReport,
    Schedule,
    TransportOutcome,
)
from headrace_common.settings import DatabaseSettings
from headrace_common.shifts import Shifts
from headrace_dispatcher.chores.records import Records, Retention
from headrace_dispatcher.chores.settings import HouseKeepingSettings
from headrace_dispatcher.scheduling.built_in import built_in_schedules, seed_built_in
from headrace_local.waiting import wait_until

DAY = timedelta(days=1)
pytestmark = pytest.mark.stack


@pytest.fixture
def database(fresh_database: DatabaseSettings) -> Iterator[Database]:
    made = Database(fresh_database)
    yield made
    made.close()


def seed(database: Database, **settings: Any) -> list[str]:
    with database.begin() as session:
        wanted = built_in_schedules(HouseKeepingSettings.model_validate(settings))
        return seed_built_in(session, wanted)


def schedules(database: Database) -> dict[str, Schedule]:
    with database.begin() as session:
        return {row.name: row for row in session.scalars(select(Schedule))}


def test_every_piece_of_house_keeping_has_a_built_in_schedule(database: Database) -> None:
    chores = {name for name, each in target_contracts().items() if each.is_housekeeping}
    assert set(seed(database)) == chores
    rows = schedules(database)
    assert set(rows) == chores
    for row in rows.values():
        assert (row.built_in, row.paused, row.overlap, row.misfire) == (True, False, "skip", "skip")
        assert row.target == row.name
        assert row.next_fire_at is not None
        assert row.next_due_at is not None
        assert row.next_due_at >= row.next_fire_at
    assert seed(database) == [], "nothing is new"


def test_a_new_default_reaches_what_no_operator_changed(database: Database) -> None:
    seed(database)
    own = {"type": "cron", "expression": "0 3 * * *"}
    with database.begin() as session:
        for row in session.scalars(select(Schedule)):
            if row.name == "housekeeping.tidy-records":
                row.trigger = own
            if row.name == "housekeeping.recover-jobs":
                row.overlap = "allow"
            if row.name == "housekeeping.trim-streams":
                row.paused, row.next_fire_at, row.next_due_at = True, None, None
    before = schedules(database)
    seconds = {"sweep_interval_seconds": 7, "records_tidy_seconds": 700, "stream_trim_seconds": 700}
    changed = seed(database, **seconds)
    rows = schedules(database)
    assert set(changed) == {"housekeeping.recover-jobs", "housekeeping.trim-streams"}
    assert rows["housekeeping.tidy-records"].trigger == own
    recover = rows["housekeeping.recover-jobs"]
    assert (recover.trigger["seconds"], recover.overlap) == (7, "allow")
    assert recover.version == before["housekeeping.recover-jobs"].version + 1
    trim = rows["housekeeping.trim-streams"]
    assert (trim.trigger["seconds"], trim.paused, trim.next_fire_at) == (700, True, None)
    assert seed(database, **seconds) == []


def fire(scene: Scene) -> int:
    """Send the message of a firing of house-keeping, as the scheduler does."""
    with scene.database.begin() as session:
        seed_built_in(session, built_in_schedules(scene.settings))
        schedule = session.scalars(select(Schedule).where(Schedule.name == RECOVER_JOBS.name)).one()
        row = firing(schedule.id, target=RECOVER_JOBS.name, target_key=RECOVER_JOBS.name)
        session.add(row)
        session.flush()
        firing_id = row.id
    message: Message[Any] = Message(
        queue_name=RECOVER_JOBS.queue,
        actor_name=RECOVER_JOBS.actor,
        args=(),
        kwargs=PerformFiring(firing_id=firing_id).model_dump(),
        options={},
    )
    send(scene.broker, message)
    return firing_id


def firing(schedule_id: str, **fields: Any) -> Firing:
    values: dict[str, Any] = {
        "fire_at": func.clock_timestamp(),
        "due_at": func.clock_timestamp(),
        "origin": "schedule",
        "epoch": 1,
        "target": "t",
        "target_key": "t",
        "overlap": "skip",
        **fields,
    }
    return Firing(schedule_id=schedule_id, **values)


def test_a_firing_has_lost_jobs_queued_again(scene_with: Callable[..., Scene]) -> None:
    scene = scene_with(lost_after_seconds=0.001)
    with running(scene):
        lost = scene.job(Lane.LOW, enqueue=False)
        firing_id = fire(scene)

        def ended() -> Firing | None:
            with scene.database.begin() as session:
                row = session.get_one(Firing, firing_id)
                return row if row.finished_at is not None else None

        row = wait_until(ended)
        assert row is not None
        assert row.state == "succeeded"
        assert row.result == {"message_lost": 1, "to_the_end": True}
        wait_until(lambda: scene.load(lost).status, lambda s: s == JobStatus.QUEUED_FOR_ANALYSIS)


def old_and_new(make: Callable[[datetime], Base], *, days: float) -> list[Base]:
    now = datetime.now(UTC)
    return [make(now - timedelta(days=days) * share) for share in (1.1, 0.9)]


def letter(state: str, at: datetime, **fields: Any) -> DeadLetter:
    values: dict[str, Any] = dict.fromkeys(
        ("source", "queue", "kind", "fingerprint", "code", "reason"), "x"
    )
    return DeadLetter(
        id=str(uuid4()),
        source_id=str(uuid4()),
        payload={},
        state=state,
        state_at=at,
        died_at=at,
        **{**values, **fields},
    )


def report(job_id: str, at: datetime, *, applied: bool = True) -> InboxReport:
    return InboxReport(
        dedup_key=str(uuid4()),
        job_id=job_id,
        source="webhook",
        payload={},
        received_at=at,
        applied_at=at if applied else None,
    )


def key(at: datetime, **fields: Any) -> IdempotencyKey:
    return IdempotencyKey(scope="s", key=str(uuid4()), created_at=at, locked_until=at, **fields)


def test_records_go_when_their_time_is_over_and_nothing_else(scene: Scene) -> None:
    seed(scene.database)
    own, built_in = str(uuid4()), schedules(scene.database)["housekeeping.recover-jobs"].id
    job_id = scene.job(enqueue=False)
    long_ago = datetime.now(UTC) - 400 * DAY
    with scene.database.begin() as session:
        session.add(
            Schedule(
                id=own,
                name="own",
                trigger={"type": "interval", "seconds": 60},
                target="t",
                target_key="t",
                created_by="test",
                changed_by="test",
            )
        )
        session.flush()
        session.add_all(
            [
                *old_and_new(
                    lambda at: AuditEntry(at=at, actor="a", action="b", target="c"), days=365
                ),
                *old_and_new(
                    lambda at: firing(own, fire_at=at, finished_at=at, state="failed"), days=30
                ),
                *old_and_new(
                    lambda at: firing(built_in, fire_at=at, finished_at=at, state="skipped"), days=1
                ),
                firing(built_in, fire_at=long_ago, state="running"),
                *old_and_new(lambda at: letter("dropped", at), days=30),
                letter("dead", long_ago),
                letter("replayed", long_ago, at_source=True),
                *old_and_new(lambda at: key(at, response={}), days=1),
                key(long_ago),
                *old_and_new(lambda at: TransportOutcome(slice_at=at, transport="sqs"), days=1),
                *old_and_new(lambda at: report("gone", at), days=30),
                report("gone.shadow", long_ago),
                report("gone", long_ago, applied=False),
                report(job_id, long_ago),
                report(f"{job_id}.shadow", long_ago),
            ]
        )
    retention = Retention(
        audit=365 * DAY, firings=30 * DAY, letters=30 * DAY, keys=DAY, reports=30 * DAY
    )
    records = Records(scene.database, retention)
    assert records.tidy(Shifts(seconds=60).begin()) == {
        "audit_entries": 1,
        "firings": 1,
        "built_in_firings": 1,
        "dead_letters": 1,
        "idempotency_keys": 2,
        "transport_outcomes": 1,
        "reports": 2,
    }
    assert not any(records.tidy(Shifts(seconds=60).begin()).values())
    with scene.database.begin() as session:
        kept = session.scalars(select(InboxReport.job_id).order_by(InboxReport.id)).all()
        assert kept == ["gone", "gone", job_id, f"{job_id}.shadow"]
        assert session.scalar(select(func.count()).select_from(DeadLetter)) == 3


def test_a_shift_that_is_over_leaves_the_rest_to_the_next(scene: Scene) -> None:
    with scene.database.begin() as session:
        session.add(AuditEntry(at=datetime.now(UTC) - 400 * DAY, actor="a", action="b", target="c"))
    retention = Retention(audit=DAY, firings=DAY, letters=DAY, keys=DAY, reports=DAY)
    records, shifts = Records(scene.database, retention), Shifts(seconds=60)
    shifts.ask_to_stop()
    assert records.tidy(shifts.begin())["audit_entries"] == 0
    assert records.tidy(Shifts(seconds=60).begin())["audit_entries"] == 1
