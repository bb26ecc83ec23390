"""Jobs that begin later: queued once, at their time, whoever looks and whatever dies."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from dispatcher_scene import Scene, running
from sqlalchemy import func, text, update

from headrace_common.broker import QueueUnavailableError
from headrace_common.contracts.events import JobEvent
from headrace_common.contracts.jobs import JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_common.db import Job
from headrace_common.jobs import Change, JobQueries
from headrace_dispatcher import due
from headrace_dispatcher.backlog import RUN_AT, open_jobs, overdue_seconds, waiting
from headrace_local.waiting import wait_until


def messages(scene: Scene, lane: Lane = Lane.NORMAL) -> list[str]:
    key = f"{scene.broker.namespace}:{lane.queue_name}"
    ids: Any = scene.broker.client.lrange(key, 0, -1)
    return [message_id.decode() for message_id in ids]


def queued_events(scene: Scene, job_id: str) -> list[JobEvent]:
    with scene.database.begin() as session:
        events = JobQueries(session).events_after(job_id, 0)
    return [event for event in events if event.status is JobStatus.QUEUED]


def grow_old(scene: Scene, job_id: str) -> None:
    """Let a job be in its stage for so long that the sweep looks for its message."""
    since: Any = func.now() - timedelta(hours=1)
    with scene.database.begin() as session:
        session.execute(update(Job).where(Job.id == job_id).values(stage_entered_at=since))


def test_of_three_dispatchers_one_queues_each_job(
    scene: Scene, scene_with: Callable[..., Scene]
) -> None:
    ids = [scene.scheduled(seconds=-1) for _ in range(230)]
    later = scene.scheduled(seconds=3600)
    scenes = [scene, *(Scene(scene.settings) for _ in "12")]
    with ThreadPoolExecutor(3) as pool:
        steps = [pool.submit(each.dispatcher.due.step) for _ in range(4) for each in scenes]
        assert all(step.result() >= 0 for step in steps)
    for other in scenes[1:]:
        other.close()
    assert sorted(messages(scene)) == sorted(str(scene.load(each).queue_message_id) for each in ids)
    events = [queued_events(scene, job_id) for job_id in ids]
    assert {len(each) for each in events} == {1}
    assert events[0][0].message == "Its time has come: waiting in the queue"
    job = scene.load(ids[0])
    assert (job.status, job.progress, job.run, job.retry_at) == ("queued", 50, 1, None)
    assert job.run_at is not None
    assert job.queued_at is not None
    assert scene.load(later).status == JobStatus.SCHEDULED


def test_a_job_whose_dispatcher_died_between_the_commit_and_its_message_gets_one(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = scene.scheduled(seconds=-1)

    def die(*_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(due, "send", die)
        with pytest.raises(SystemExit):
            scene.dispatcher.due.step()
    assert (scene.load(job_id).status, messages(scene)) == ("queued", [])
    scene.dispatcher.due.step()
    assert messages(scene) == [], "it is not due once more"
    grow_old(scene, job_id)
    assert scene.dispatcher.sweep.round() == 1
    assert messages(scene) == [scene.load(job_id).queue_message_id]


def test_a_job_that_redis_did_not_take_is_sent_when_it_is_back(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = scene.scheduled(seconds=-1)

    def away(*_: object) -> None:
        raise QueueUnavailableError("away")

    with monkeypatch.context() as patch:
        patch.setattr(due, "send", away)
        scene.dispatcher.due.step()
    wait_until(lambda: scene.dispatcher.due.step() and messages(scene))
    assert messages(scene) == [scene.load(job_id).queue_message_id]
    assert len(queued_events(scene, job_id)) == 1


def test_a_job_that_begins_later_waits_in_nobodys_way(scene: Scene) -> None:
    job_id = scene.scheduled(seconds=365 * 24 * 3600)
    grow_old(scene, job_id)
    before = scene.load(job_id)
    # Its message is somebody else's invention.
    scene.enqueue(job_id, Lane.NORMAL)
    with running(scene):
        wait_until(lambda: scene.dispatcher.lane_messages(Lane.NORMAL), lambda count: count == 0)
        assert scene.dispatcher.sweep.round() == 0
    job = scene.load(job_id)
    assert (job.status, job.event_sequence) == ("scheduled", before.event_sequence)
    with scene.database.begin() as session:
        found = open_jobs(session)
        assert JobQueries(session).lane_counts()[Lane.NORMAL].waiting == 0
        assert JobQueries(session).places([job_id]) == {}
    assert waiting(found) == {RUN_AT: 1}
    assert overdue_seconds(found) == 0
    assert {view.waiting for view in scene.dispatcher.queues.show()} == {0}


def test_a_job_that_was_cancelled_is_not_queued(scene: Scene) -> None:
    job_id = scene.scheduled(seconds=-1)
    cancel = Change(job_id=job_id, to=JobStatus.CANCELLED, message="Cancelled")
    assert scene.store.apply([cancel])[0].applied
    scene.dispatcher.due.step()
    job = scene.load(job_id)
    assert (job.status, job.discard_at) == ("cancelled", None)
    assert job.retain_until is not None
    assert messages(scene) == []


def test_a_job_begins_at_its_time_and_never_before(scene_with: Callable[..., Scene]) -> None:
    scene = scene_with(retry_poll_seconds=0.5)  # as shipped
    with running(scene):
        ids = [scene.scheduled(seconds=1 + number / 10) for number in range(10)]
        wait_until(
            lambda: {scene.load(job_id).status for job_id in ids},
            lambda seen: not seen & {"scheduled", "queued"},
        )
    for job_id in ids:
        run_at = scene.load(job_id).run_at
        assert run_at is not None
        (queued,) = queued_events(scene, job_id)
        # Half a second and a bit where the machine has nothing else to do; it may be a busy one.
        assert timedelta(0) <= queued.created_at - run_at <= timedelta(seconds=30)


def test_looking_for_jobs_that_are_due_reads_none_that_are_not(scene: Scene) -> None:
    fill = text("""
        INSERT INTO jobs (id, kind, status, progress, message, lane, run_at)
        SELECT 'job-' || g, 'audio_analysis', 'scheduled', 35, '', 'normal',
            now() + g * interval '1 minute'
        FROM generate_series(1, 20000) AS g
    """)
    with scene.database.begin() as session:
        session.execute(fill)
        session.execute(text("ANALYZE jobs"))
        for look, values in (
            (due._TAKE, {"longest": due._LONGEST_WAIT, "most": 100}),
            (due._TAKE_SCHEDULED, {"most": 100}),
        ):
            explain = text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {look.text}")
            plan = session.execute(explain, values).scalar_one()[0]["Plan"]
            assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 100, plan
