"""Jobs from the lanes to SQS, on real servers."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from dispatcher_scene import Queues, Scene, running

from headrace_common import webhooks
from headrace_common.broker import lost_messages
from headrace_common.contracts.jobs import JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_common.jobs import Change
from headrace_dispatcher.transports import TransportName
from headrace_local.pytest_plugin import LocalServers
from headrace_local.waiting import wait_until


def has_status(*statuses: JobStatus) -> Callable[[Any], bool]:
    return lambda job: job.status in statuses


def wait_for_all(scene: Scene, ids: list[str]) -> None:
    sent = JobStatus.QUEUED_FOR_ANALYSIS
    wait_until(
        lambda: sum(scene.load(i).status == sent for i in ids),
        lambda n: n == len(ids),
        seconds=120,
    )


@pytest.mark.parametrize("lane", list(Lane))
def test_a_job_goes_to_its_lanes_queue(scene: Scene, queues: Queues, lane: Lane) -> None:
    job_id = scene.job(lane)
    with running(scene):
        job = wait_until(lambda: scene.load(job_id), has_status(JobStatus.QUEUED_FOR_ANALYSIS))
    message = queues.receive(lane)[0]
    assert job.meta["sqs_message_id"] == message["MessageId"]
    assert (job.transport, job.progress) == ("sqs", 80)
    body = json.loads(message["Body"])
    assert body["job_id"] == job_id
    assert body["video_id"] == body["token_id"] == "token-1"
    assert body["callback_url"] == body["webhook_url"]
    query = parse_qs(urlsplit(body["callback_url"]).query)
    assert query["job_id"] == [job_id]
    assert webhooks.callback_token_is_valid(query["token"][0], job_id, secrets=["s" * 32])
    attributes = message["MessageAttributes"]
    assert attributes["job_type"]["StringValue"] == "audio_analysis"
    assert attributes["priority"]["StringValue"] == lane.value


def test_better_lanes_are_served_first(scene_with: Callable[..., Scene]) -> None:
    scene = scene_with(dispatcher_threads=1, batch_linger_seconds=0)
    low = [scene.job(Lane.LOW) for _ in range(5)]
    normal = [scene.job(Lane.NORMAL) for _ in range(5)]
    high = [scene.job(Lane.HIGH) for _ in range(5)]
    with running(scene):
        wait_for_all(scene, [*low, *normal, *high])
    order = sorted([*low, *normal, *high], key=lambda job_id: scene.load(job_id).stage_entered_at)
    lanes = [scene.load(job_id).lane for job_id in order]
    for number, lane in enumerate(("high", "normal", "low")):
        places = [place for place, its in enumerate(lanes) if its == lane]
        # One that was fetched when the better lane was empty goes before the last one of that.
        assert min(places) >= 5 * number - 1, lanes
        assert max(places) <= 5 * number + 5, lanes


def test_many_jobs_share_few_calls(scene: Scene, queues: Queues) -> None:
    ids = [scene.job() for _ in range(100)]
    with running(scene):
        wait_for_all(scene, ids)
    bodies = []
    while found := queues.receive(Lane.NORMAL):
        bodies += [json.loads(message["Body"])["job_id"] for message in found]
    assert sorted(bodies) == sorted(ids)


def test_a_cancelled_job_is_not_sent(scene: Scene, queues: Queues) -> None:
    cancelled, other = scene.job(), scene.job()
    scene.store.apply([Change(job_id=cancelled, to=JobStatus.CANCELLED, message="Cancelled")])
    with running(scene):
        wait_until(lambda: scene.load(other), has_status(JobStatus.QUEUED_FOR_ANALYSIS))
        wait_until(lambda: scene.dispatcher.lane_messages(Lane.NORMAL), lambda count: count == 0)
    assert [json.loads(m["Body"])["job_id"] for m in queues.receive(Lane.NORMAL)] == [other]
    assert scene.load(cancelled).status == JobStatus.CANCELLED


def test_a_message_that_comes_twice_sends_once(scene: Scene, queues: Queues) -> None:
    job_id = scene.job()
    with running(scene):
        wait_until(lambda: scene.load(job_id), has_status(JobStatus.QUEUED_FOR_ANALYSIS))
        scene.enqueue(job_id, Lane.NORMAL)
        wait_until(lambda: scene.dispatcher.lane_messages(Lane.NORMAL), lambda count: count == 0)
    assert len(queues.receive(Lane.NORMAL)) == 1
    assert "Ignored" not in " ".join(scene.messages(job_id))


def test_an_answer_that_overtakes_is_not_undone(scene: Scene) -> None:
    job_id = scene.job()
    scene.store.apply([Change(job_id=job_id, to=JobStatus.COMPLETED, message="Done")])
    with running(scene):
        wait_until(lambda: scene.dispatcher.lane_messages(Lane.NORMAL), lambda count: count == 0)
    assert scene.load(job_id).status == JobStatus.COMPLETED


def test_jobs_wait_while_sqs_is_away_and_lose_no_try(
    scene_with: Callable[..., Scene], local_servers: LocalServers, queues: Queues
) -> None:
    scene = scene_with(job_max_retries=0, circuit_failures=2)
    local_servers.stop("sqs")
    try:
        ids = [scene.job() for _ in range(50)]
        with running(scene):
            circuit = scene.dispatcher.circuits.of(TransportName.SQS)
            wait_until(lambda: circuit.view().failures, lambda count: count >= 4)
            later = [scene.job(lane) for lane in Lane]
            # But for those that try whether it answers again, jobs stay where they are.
            assert {scene.load(job_id).status for job_id in later} <= {"queued", "processing"}
            local_servers.start("sqs")
            wait_for_all(scene, [*ids, *later])
    finally:
        local_servers.require("sqs")
    assert {scene.load(job_id).deliveries for job_id in ids} == {1}
    sent = [m["Body"] for lane in Lane for m in _receive_all(queues, lane)]
    assert len(sent) == 53
    assert max(len(scene.messages(job_id)) for job_id in ids) < 20, "an outage is told, not recited"


def _receive_all(queues: Queues, lane: Lane) -> list[dict[str, Any]]:
    messages = []
    while found := queues.receive(lane):
        messages += found
    return messages


def test_a_job_that_waits_says_for_what(scene_with: Callable[..., Scene]) -> None:
    scene = scene_with(sqs_queue_url="http://127.0.0.1:1/1/none", sqs_endpoint_url=None)
    job_id = scene.job()
    with running(scene):
        job = wait_until(lambda: scene.load(job_id), lambda job: job.waiting_for is not None)
    assert (job.status, job.waiting_for, job.deliveries) == ("processing", "sqs", 0)
    assert "Waiting for sqs: SQS does not answer" in job.message


def test_a_message_of_a_job_that_waits_does_nothing(scene: Scene, queues: Queues) -> None:
    job_id = scene.job()
    scene.store.hold(
        job_id,
        until=datetime.now(UTC) + timedelta(minutes=5),
        waiting_for="sqs",
        message="Waiting for sqs",
    )
    with running(scene):
        wait_until(lambda: scene.dispatcher.lane_messages(Lane.NORMAL), lambda count: count == 0)
    assert scene.load(job_id).status == JobStatus.QUEUED
    assert not queues.receive(Lane.NORMAL)


def test_a_message_that_kills_its_workers_ends(scene_with: Callable[..., Scene]) -> None:
    scene = scene_with(job_max_deliveries=4)
    job_id = scene.job()
    taken = Change(job_id=job_id, to=JobStatus.PROCESSING, message="", takes_up=True)
    for _ in range(4):
        scene.store.apply([taken])
    with running(scene):
        job = wait_until(lambda: scene.load(job_id), has_status(JobStatus.FAILED))
    assert job.error_code == "poison_message"


def test_a_stop_hands_back_what_it_did_not_do(scene_with: Callable[..., Scene]) -> None:
    scene = scene_with(dispatcher_threads=1)
    ids = [scene.job() for _ in range(50)]
    with running(scene):
        wait_until(lambda: scene.load(ids[0]), has_status(JobStatus.QUEUED_FOR_ANALYSIS))
    sent = sum(scene.load(i).status == JobStatus.QUEUED_FOR_ANALYSIS for i in ids)
    assert scene.broker.client.llen(f"{scene.broker.namespace}:audio_analysis") == 50 - sent
    again = Scene(scene.settings)
    with running(again):
        wait_for_all(scene, ids)
    again.close()


def test_redis_keeps_a_message_under_its_own_id(scene: Scene) -> None:
    job = scene.load(scene.job())
    lost = scene.load(scene.job(enqueue=False))
    ids = [job.queue_message_id or "", lost.queue_message_id or ""]
    assert lost_messages(scene.broker, Lane.NORMAL.queue_name, ids) == [lost.queue_message_id]


def test_a_receipt_that_comes_after_a_restart_leaves_the_next_run_alone(
    scene: Scene, queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its message would be obsolete, and nobody be asked in the run that counts."""
    job_id = scene.job()
    transport = scene.dispatcher.transports[0]
    send = transport.send

    def restarted_meanwhile(*arguments: Any) -> Any:
        answers = send(*arguments)
        monkeypatch.setattr(transport, "send", send)
        message_id = str(uuid4())
        again = Change(
            job_id=job_id,
            to=JobStatus.QUEUED,
            message="Again",
            queue_message_id=message_id,
            starts_run=True,
        )
        scene.store.apply([again])
        scene.enqueue(job_id, Lane.NORMAL, message_id)
        # Its worker has the old message in hand still.
        return answers

    monkeypatch.setattr(transport, "send", restarted_meanwhile)
    with running(scene):
        job = wait_until(lambda: scene.load(job_id), has_status(JobStatus.QUEUED_FOR_ANALYSIS))
        wait_until(lambda: scene.dispatcher.lane_messages(Lane.NORMAL), lambda count: count == 0)
    assert (job.run, scene.load(job_id).deliveries) == (2, 1)
    urls = [json.loads(m["Body"])["callback_url"] for m in _receive_all(queues, Lane.NORMAL)]
    assert sorted("&run=2" in url for url in urls) == [False, True]
