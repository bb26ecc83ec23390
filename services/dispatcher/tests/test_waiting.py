"""Jobs wait in their lanes and rows, and go on: paused lanes, lost answers, a database away."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from dispatcher_scene import Queues, Scene, running
from sqlalchemy import text

from headrace_common import queue_controls
from headrace_common.broker import QueueUnavailableError
from headrace_common.circuit import CircuitState
from headrace_common.contracts.jobs import JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_dispatcher import due, lookup
from headrace_dispatcher.dispatch import NotNowError
from headrace_dispatcher.lanes import _HAND_BACK
from headrace_dispatcher.lookup import MessageLookup
from headrace_dispatcher.transports import TransportName
from headrace_local.pytest_plugin import LocalServers
from headrace_local.waiting import wait_until

SENT = JobStatus.QUEUED_FOR_ANALYSIS


def pause(scene: Scene, lane: Lane, *, paused: bool = True) -> None:
    with scene.database.begin() as session:
        queue_controls.set_paused(session, lane.queue_name, paused=paused, actor="test")


def hold(scene: Scene, job_id: str, *, seconds: float) -> None:
    until = datetime.now(UTC) + timedelta(seconds=seconds)
    assert scene.store.hold(job_id, until=until, waiting_for="sqs", message="Waiting for sqs")


def waiting(scene: Scene, lane: Lane = Lane.NORMAL) -> list[str]:
    key = f"{scene.broker.namespace}:{lane.queue_name}"
    ids: Any = scene.broker.client.lrange(key, 0, -1)
    return [message_id.decode() for message_id in ids]


def test_a_paused_lane_rests_and_holds_back_no_other(scene: Scene) -> None:
    pause(scene, Lane.HIGH)
    paused, others = scene.job(Lane.HIGH), [scene.job(Lane.NORMAL), scene.job(Lane.LOW)]
    with running(scene):
        wait_until(
            lambda: {scene.load(job_id).status for job_id in others}, lambda seen: seen == {SENT}
        )
        assert scene.load(paused).status == JobStatus.QUEUED
        pause(scene, Lane.HIGH, paused=False)
        wait_until(lambda: scene.load(paused).status, lambda status: status == SENT)


def test_what_was_fetched_before_a_pause_goes_back_to_the_head_of_its_lane(scene: Scene) -> None:
    first, second = scene.job(), scene.job()
    consumer = scene.broker.consume(Lane.NORMAL.queue_name, prefetch=1)
    message = next(consumer)
    assert message is not None
    pause(scene, Lane.NORMAL)
    scene.dispatcher.gate.look()
    with pytest.raises(NotNowError):
        scene.dispatcher._dispatching.run(first, Lane.NORMAL)
    message.options[_HAND_BACK] = True
    consumer.ack(message)
    ids = [scene.load(job_id).queue_message_id for job_id in (first, second)]
    assert waiting(scene) == ids
    assert next(consumer) is None, "the lane is paused"
    assert scene.load(first).deliveries == 0


def test_messages_whose_fetching_nobody_heard_of_are_fetched_again(scene: Scene) -> None:
    ids = [scene.load(scene.job()).queue_message_id for _ in range(3)]
    # As if the connection had ended before the answer came.
    assert len(scene.broker.do_fetch(Lane.NORMAL.queue_name, 3)) == 3
    consumer: Any = scene.broker.consume(Lane.NORMAL.queue_name, prefetch=3)
    fetched = [message.message_id for message in (next(consumer) for _ in range(3)) if message]
    assert sorted(fetched) == sorted(message_id or "" for message_id in ids)
    consumer._reconcile()
    assert waiting(scene) == [], "what is in our hands stays there"
    consumer.close()


def test_a_message_that_stays_in_somebodys_hands_is_stuck(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_hand, in_lane, gone = (
        scene.load(job_id).queue_message_id or ""
        for job_id in (scene.job(), scene.job(), scene.job(enqueue=False))
    )
    assert len(scene.broker.do_fetch(Lane.NORMAL.queue_name, 1)) == 1
    looking = MessageLookup(scene.broker)
    assert looking.stuck(Lane.NORMAL, [in_hand, in_lane, gone]) == {gone}
    monkeypatch.setattr(lookup, "_SUSPECT_SECONDS", 0.0)
    assert looking.stuck(Lane.NORMAL, [in_hand, in_lane, gone]) == {gone, in_hand}


def test_each_job_that_is_due_gets_one_message(scene: Scene) -> None:
    ids = [scene.job(enqueue=False) for _ in range(150)]
    for job_id in ids:
        hold(scene, job_id, seconds=-1)
    later = scene.job(enqueue=False)
    hold(scene, later, seconds=60)
    other = Scene(scene.settings)
    with ThreadPoolExecutor(2) as pool:
        steps = [pool.submit(each.dispatcher.due.step) for each in (scene, other) for _ in "12"]
        assert all(step.result() >= 0 for step in steps)
    found = waiting(scene)
    assert sorted(found) == sorted(scene.load(job_id).queue_message_id or "" for job_id in ids)
    assert scene.load(later).retry_at is not None
    assert scene.dispatcher.sweep.round() == 0
    other.close()


def test_a_clock_that_was_wrong_keeps_no_job_for_ever(scene: Scene) -> None:
    job_id = scene.job(enqueue=False)
    hold(scene, job_id, seconds=24 * 3600)
    scene.dispatcher.due.step()
    assert len(waiting(scene)) == 1


def test_what_redis_did_not_take_waits_on(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = scene.job(enqueue=False)
    hold(scene, job_id, seconds=-1)

    def away(*_: object) -> None:
        raise QueueUnavailableError("away")

    with monkeypatch.context() as patch:
        patch.setattr(due, "send", away)
        scene.dispatcher.due.step()
    assert scene.load(job_id).retry_at is not None
    wait_until(lambda: scene.dispatcher.due.step() and waiting(scene))


def test_a_dependency_that_answers_again_lets_its_jobs_go_on_at_once(scene: Scene) -> None:
    job_id = scene.job(enqueue=False)
    hold(scene, job_id, seconds=200)
    circuit = scene.dispatcher.circuits.postgres
    circuit.failed("away")
    scene.dispatcher.due.step()
    with scene.database.begin() as session:
        session.execute(text("UPDATE jobs SET waiting_for = 'postgres'"))
    circuit.succeeded()
    wait_until(lambda: scene.dispatcher.due.step() and waiting(scene))


def test_however_many_wait_for_a_dependency_are_let_go(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due, "_RELEASE_BATCH", 2)
    ids = [scene.job(enqueue=False) for _ in range(5)]
    for job_id in ids:
        hold(scene, job_id, seconds=200)
    circuit = scene.dispatcher.circuits.of(TransportName.SQS)
    for _ in range(scene.settings.circuit_failures):
        circuit.failed("away")
    scene.dispatcher.due.step()
    circuit.succeeded()
    assert scene.dispatcher.due.step() == 0, "there is more"
    wait_until(lambda: scene.dispatcher.due.step() and len(waiting(scene)) == 5)


def test_without_a_database_messages_stay_in_their_lanes(
    scene: Scene, local_servers: LocalServers, queues: Queues
) -> None:
    ids = [scene.job() for _ in range(20)]
    client, namespace = scene.broker.client, scene.broker.namespace
    local_servers.stop("postgres")
    try:
        with running(scene):
            wait_until(lambda: scene.dispatcher.circuits.postgres.state is CircuitState.OPEN)
            assert scene.dispatcher.lane_messages(Lane.NORMAL) == 20
            local_servers.start("postgres")
            wait_until(
                lambda: {scene.load(job_id).status for job_id in ids}, lambda seen: seen == {SENT}
            )
    finally:
        local_servers.require("postgres")
    assert {scene.load(job_id).deliveries for job_id in ids} == {1}
    assert not client.keys(f"{namespace}:*.XQ"), "no dead letters"
    assert len(queues.receive(Lane.NORMAL)) == 10
