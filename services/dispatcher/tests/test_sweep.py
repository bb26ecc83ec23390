"""What gets stuck gets going again, or ends with a reason."""

import json
import socket
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from dispatcher_scene import Queues, Scene, running
from sqlalchemy import text

from headrace_common.contracts.jobs import JobKind, JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_common.jobs import Change, NewJob
from headrace_local.waiting import wait_until


@pytest.fixture
def impatient(scene_with: Callable[..., Scene]) -> Scene:
    """A scene whose dispatcher takes jobs for stuck that are a few milliseconds old."""
    return scene_with(lost_after_seconds=0.001)


def age(scene: Scene, job_id: str, hours: float) -> None:
    """Make a job's stage begin earlier."""
    with scene.database.begin() as session:
        session.execute(
            text(
                "UPDATE jobs SET stage_entered_at = stage_entered_at - make_interval(secs => :s),"
                " updated_at = updated_at - make_interval(secs => :s),"
                " retry_at = retry_at - make_interval(secs => :s) WHERE id = :id"
            ),
            {"s": hours * 3600, "id": job_id},
        )


def test_a_job_that_the_queue_never_got_is_queued(impatient: Scene, queues: Queues) -> None:
    job_id = f"job-{uuid4()}"
    impatient.store.create(
        NewJob(
            id=job_id,
            kind=JobKind.AUDIO_ANALYSIS,
            lane=Lane.LOW,
            message="",
            input={"s3_audio_url": "s3://bucket/a"},
        )
    )
    impatient.store.apply([Change(job_id=job_id, to=JobStatus.QUEUING, message="")])
    age(impatient, job_id, 0.1)
    assert impatient.dispatcher.sweep.round() == 1
    assert impatient.load(job_id).status == JobStatus.QUEUED
    with running(impatient):
        wait_until(lambda: impatient.load(job_id).status, lambda s: s == "queued_for_analysis")
    assert len(queues.receive(Lane.LOW)) == 1


def test_a_flushed_redis_loses_no_job(impatient: Scene, queues: Queues) -> None:
    ids = [impatient.job(lane) for lane in Lane for _ in range(3)]
    client, namespace = impatient.broker.client, impatient.broker.namespace
    client.delete(*client.keys(f"{namespace}:*"))
    assert impatient.dispatcher.sweep.round() == 9
    assert impatient.dispatcher.sweep.round() == 0, "what was sent again is not lost"
    with running(impatient):
        wait_until(
            lambda: {impatient.load(i).status for i in ids}, lambda s: s == {"queued_for_analysis"}
        )
    sent = [json.loads(m["Body"])["job_id"] for lane in Lane for m in queues.receive(lane)]
    assert sorted(sent) == sorted(ids)


def test_a_long_lane_is_left_alone(impatient: Scene) -> None:
    ids = [impatient.job() for _ in range(5)]
    for job_id in ids:
        age(impatient, job_id, 24)
    assert impatient.dispatcher.sweep.round() == 0
    assert impatient.dispatcher.lane_messages(Lane.NORMAL) == 5


def test_a_place_in_the_lane_is_kept(impatient: Scene) -> None:
    job_id = impatient.job(enqueue=False)
    queued_at = impatient.load(job_id).queued_at
    assert impatient.dispatcher.sweep.round() == 1
    assert impatient.load(job_id).queued_at == queued_at


def test_an_upload_without_end_is_given_up(scene: Scene) -> None:
    job_id = f"job-{uuid4()}"
    scene.store.create(
        NewJob(id=job_id, kind=JobKind.AUDIO_ANALYSIS, lane=Lane.HIGH, message="Uploading")
    )
    age(scene, job_id, 5.9)
    assert scene.dispatcher.sweep.round() == 0
    age(scene, job_id, 0.2)
    assert scene.dispatcher.sweep.round() == 1
    job = scene.load(job_id)
    assert (job.status, job.error_code) == ("failed", "upload_abandoned")


def test_an_analysis_without_answer_is_asked_for_again_and_then_ends(
    scene: Scene, queues: Queues
) -> None:
    job_id = scene.job()
    with running(scene):
        wait_until(lambda: scene.load(job_id).status, lambda s: s == "queued_for_analysis")
        for _ in range(4):
            age(scene, job_id, 6.1)
            assert scene.dispatcher.sweep.round() == 1
    job = scene.load(job_id)
    assert (job.status, job.error_code) == ("failed", "analysis_timed_out")
    assert len(queues.receive(Lane.NORMAL)) == 4


def test_who_was_asked_again_may_take_as_long_to_begin_as_the_first(
    scene: Scene, queues: Queues
) -> None:
    job_id = scene.job()
    began = Change(
        job_id=job_id,
        to=JobStatus.QUEUED_FOR_ANALYSIS,
        progress=95,
        message="Being analysed",
        metadata={"analysis_progress": 80},
    )
    with running(scene):
        wait_until(lambda: scene.load(job_id).status, lambda s: s == "queued_for_analysis")
        scene.store.apply([began])
        age(scene, job_id, 0.3)
        assert scene.dispatcher.sweep.round() == 1
        age(scene, job_id, 0.3)
        assert scene.dispatcher.sweep.round() == 0, "it waits in SQS, which is nobody's fault"
    assert len(queues.receive(Lane.NORMAL)) == 2


def test_progress_that_comes_late_is_a_sign_of_life(scene: Scene) -> None:
    job_id = scene.job(enqueue=False)
    for percent in (95, 85):
        age(scene, job_id, 0.3)
        scene.store.apply(
            [
                Change(
                    job_id=job_id,
                    to=JobStatus.QUEUED_FOR_ANALYSIS,
                    progress=percent,
                    message="Being analysed",
                    metadata={"analysis_progress": 40},
                )
            ]
        )
    assert scene.dispatcher.sweep.round() == 0
    age(scene, job_id, 0.3)
    assert scene.dispatcher.sweep.round() == 1


def test_a_silent_sqs_holds_the_sweep_up_for_seconds_only(
    scene_with: Callable[..., Scene],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        scene = scene_with(sqs_endpoint_url=url, sqs_queue_url=f"{url}/1/normal")
        unanswered = [scene.job(enqueue=False) for _ in range(150)]
        sent = [
            Change(job_id=job_id, to=JobStatus.QUEUED_FOR_ANALYSIS, message="", takes_up=True)
            for job_id in unanswered
        ]
        scene.store.apply(sent)
        for job_id in unanswered:
            age(scene, job_id, 7)
        lost = scene.job(enqueue=False)
        age(scene, lost, 1)
        for _ in range(2):
            started = time.monotonic()
            scene.dispatcher.sweep.round()
            assert time.monotonic() - started < 45
        assert scene.dispatcher.lane_messages(Lane.NORMAL) == 1, "the others were not forgotten"


def test_one_job_that_cannot_be_recovered_keeps_none_waiting(scene: Scene) -> None:
    broken, foreign, lost = (scene.job(enqueue=False) for _ in range(3))
    with scene.database.begin() as session:
        session.execute(
            text(
                "UPDATE jobs SET status = 'queued_for_analysis', input = '{}',"
                " stage_entered_at = stage_entered_at - interval '7 hours' WHERE id = :id"
            ),
            {"id": broken},
        )
        # What a version after this one may write.
        session.execute(text("UPDATE jobs SET status = 'resting' WHERE id = :id"), {"id": foreign})
    for job_id in (foreign, lost):
        age(scene, job_id, 1)
    assert scene.dispatcher.sweep.round() == 1
    assert scene.dispatcher.lane_messages(Lane.NORMAL) == 1


def test_a_job_whose_way_is_gone_ends(scene: Scene) -> None:
    job_id = scene.job(enqueue=False)
    scene.store.apply(
        [Change(job_id=job_id, to=JobStatus.QUEUED_FOR_ANALYSIS, message="", transport="http")]
    )
    age(scene, job_id, 7)
    scene.dispatcher.sweep.round()
    assert scene.load(job_id).status == JobStatus.QUEUED_FOR_ANALYSIS, "it may come back"
    age(scene, job_id, 18)
    scene.dispatcher.sweep.round()
    job = scene.load(job_id)
    assert (job.status, job.error_code) == ("failed", "analysis_timed_out")


def test_of_several_sweeps_that_find_a_job_one_acts(
    impatient: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = impatient.job(enqueue=False)
    other = Scene(impatient.settings)
    found = other.dispatcher.sweep._due(*other.dispatcher.sweep._next_jobs())
    assert impatient.dispatcher.sweep.round() == 1
    # As if it had been frozen between its reading and its acting.
    monkeypatch.setattr(other.dispatcher.sweep, "_due", lambda *_: found)
    assert [job.id for job, _ in found] == [job_id]
    assert other.dispatcher.sweep.round() == 0
    assert impatient.dispatcher.lane_messages(Lane.NORMAL) == 1
    other.close()


def test_finished_jobs_are_not_touched(impatient: Scene) -> None:
    finals: dict[JobStatus, Any] = {}
    for status in (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED):
        job_id = impatient.job(enqueue=False)
        impatient.store.apply([Change(job_id=job_id, to=status, message="")])
        age(impatient, job_id, 100)
        finals[status] = job_id
    assert impatient.dispatcher.sweep.round() == 0
    assert {status: impatient.load(job_id).status for status, job_id in finals.items()} == {
        status: status.value for status in finals
    }
