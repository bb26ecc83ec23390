"""Letters of every kind that died on the real servers: brought in, shown, replayed, dropped."""

import json
from typing import Any
from uuid import uuid4

import pytest
from dead_bench import Bench, bench, dispatch_message
from dispatcher_scene import running

from headrace_common.broker import new_message
from headrace_common.contracts.jobs import JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_common.contracts.messages import APPLY_REPORT_QUEUE, ActorName, ApplyReport
from headrace_dispatcher.dead.from_dramatiq import DramatiqLetters
from headrace_dispatcher.dead.keeping import keeper
from headrace_local.waiting import wait_until

__all__ = ["bench"]


def test_a_dispatch_that_died_gets_its_open_job_going(bench: Bench) -> None:
    job_id = bench.scene.job(enqueue=False)
    bench.kill_message(dispatch_message(job_id))
    letter = bench.only(source="dramatiq", job_id=job_id)
    assert (letter["queue"], letter["code"], letter["kind"]) == (
        "audio_analysis",
        "LookupError",
        "dispatch",
    )
    assert letter["reason"].startswith("no such thing as")
    assert letter["payload"]["message"]["kwargs"] == {"job_id": job_id}
    assert letter["replay"]["action"] == "requeue"
    assert bench.redis.zcard(f"{bench.scene.broker.namespace}:audio_analysis.XQ") == 0
    assert bench.replay(letter).startswith("requeue: ")
    with running(bench.scene):
        wait_until(lambda: bench.status(job_id), lambda seen: seen == "queued_for_analysis")


def test_a_failed_job_begins_anew_with_its_dispatch(bench: Bench) -> None:
    job_id = bench.scene.job(enqueue=False)
    bench.kill_message(dispatch_message(job_id))
    bench.end(job_id, JobStatus.FAILED)
    letter = bench.only()
    assert (letter["job_status"], letter["obsolete"]) == ("failed", False)
    assert bench.replay(letter) == "restart: the job failed, and begins run 2"
    job = bench.scene.load(job_id)
    assert (job.status, job.run) == ("queued", 2)
    assert bench.scene.dispatcher.lane_messages(Lane.NORMAL) == 1
    assert bench.found(state="dead") == []


def test_a_report_to_apply_goes_back_to_its_queue_without_its_retries(bench: Bench) -> None:
    bench.kill_message(
        new_message(ActorName.APPLY_REPORT, APPLY_REPORT_QUEUE, ApplyReport(inbox_id=7))
    )
    assert bench.replay(bench.only()).startswith("send_again: ")
    key = f"{bench.scene.broker.namespace}:{APPLY_REPORT_QUEUE}.msgs"
    ((_, data),) = bench.redis.hgetall(key).items()
    message = json.loads(data)
    assert message["kwargs"] == {"inbox_id": 7}
    assert not {"retries", "traceback"} & message["options"].keys()


def test_a_collector_that_is_killed_between_keeping_and_removing_doubles_nothing(
    bench: Bench,
) -> None:
    class Killed(DramatiqLetters):
        def remove(self, queue: str, ids: Any) -> None:
            raise KeyboardInterrupt

    bench.kill_message(dispatch_message(str(uuid4())))
    bench.kill_entry({"cctvId": "c"})
    namespace = bench.scene.broker.namespace
    killed = Killed(bench.redis, keeper(bench.scene.database), namespace=namespace)
    with pytest.raises(KeyboardInterrupt):
        killed.collect()
    assert bench.redis.zcard(f"{namespace}:audio_analysis.XQ") == 1, "nothing is lost"
    bench.collect()
    # As after a fail-over of Redis: what was read of the stream is forgotten.
    bench.redis.xgroup_destroy(bench.dead_stream, "dead-letters")
    bench.collect()
    assert bench.redis.zcard(f"{namespace}:audio_analysis.XQ") == 0
    assert sorted(letter["source"] for letter in bench.found()) == ["dramatiq", "stream"]


def test_a_job_that_analysis_servers_gave_back_too_often_is_asked_for_again(bench: Bench) -> None:
    job_id = bench.scene.job(Lane.HIGH)
    url = bench.queues.urls.by_lane[Lane.HIGH]
    with running(bench.scene):
        wait_until(lambda: bench.status(job_id), lambda seen: seen == "queued_for_analysis")
        bench.receive_to_death(url)
        letter = bench.only(source="sqs", job_id=job_id)
        assert (letter["code"], letter["attempts"], letter["run"]) == ("max_receives", 3, 1)
        assert letter["payload"]["attributes"]["priority"]["StringValue"] == "high"
        assert "token=[redacted]" in letter["payload"]["body"]["callback_url"]
        assert letter["replay"]["action"] == "ask_again"
        bench.post("/dead-letters/replay", ids=[letter["id"]])
        wait_until(lambda: bench.found(state="replayed"))
    assert [body["job_id"] for body in bench.received(url)] == [job_id]
    assert bench.scene.load(job_id).run == 1


def test_what_died_of_a_job_that_is_done_is_obsolete(bench: Bench) -> None:
    job_id = bench.scene.job(enqueue=False)
    bench.end(job_id, JobStatus.QUEUED_FOR_ANALYSIS)
    bench.kill_sqs(bench.queues.urls.by_lane[Lane.NORMAL], json.dumps({"job_id": job_id}))
    bench.end(job_id, JobStatus.COMPLETED)
    letter = bench.only()
    assert letter["obsolete"]
    assert bench.replay(letter) == "obsolete: the job is completed"
    assert bench.scene.load(job_id).run == 1


def test_a_report_of_the_result_queue_is_sent_there_again(bench: Bench) -> None:
    job_id = bench.scene.job(enqueue=False)
    results = bench.queues.urls.results
    body = {"job_id": job_id, "status": "completed"}
    bench.kill_sqs(results, json.dumps(body))
    letter = bench.only()
    assert (letter["kind"], letter["code"]) == ("analysis_report", "report_not_taken")
    assert bench.replay(letter).startswith("send_again: ")
    assert bench.received(results) == [body]


def test_an_entry_that_nobody_can_read_stays_in_its_stream_until_it_is_decided(
    bench: Bench,
) -> None:
    entry_id = bench.kill_entry(
        {"cctvId": "c", "hls": "http://u:hush@h/a.m3u8?key=hush", "sec": "x", "attempt": "2"}
    )
    letter = bench.only(source="stream")
    assert letter["source_id"] == entry_id
    assert letter["died_at"].startswith("2026-01-02T03:04:05.678")
    assert "hush" not in json.dumps(letter)
    assert letter["reason"] == "sec: Input should be a valid number"
    assert bench.redis.xlen(bench.dead_stream) == 1
    assert bench.replay(letter).startswith("send_again: ")
    ((_, fields),) = bench.redis.xrange(bench.stream)
    assert fields == {
        b"cctvId": b"c",
        b"hls": b"http://u:hush@h/a.m3u8?key=hush",
        b"sec": b"x",
        b"attempt": b"0",
    }
    bench.collect()
    assert bench.redis.xlen(bench.dead_stream) == 0


def test_a_camera_job_that_failed_begins_anew_once_however_often_the_effect_is_repeated(
    bench: Bench,
) -> None:
    known = bench.camera_job(JobStatus.FAILED)
    fields = {"hls": "http://h/a.m3u8", "sec": "2", "attempt": "3", "enqueuedAt": "1"}
    bench.kill_entry({**fields, "cctvId": "cam-1", "jobId": known})
    bench.kill_entry({**fields, "cctvId": "cam-2", "jobId": "unknown-1"})
    bench.collect()
    bench.post("/dead-letters/replay", all=True)
    bench.replay_due()
    job = bench.scene.load(known)
    assert (job.status, job.run) == ("queued", 2)
    # A dispatcher that was killed after the effect and before it noted that.
    with bench.scene.database.begin() as session:
        session.connection().exec_driver_sql(
            "UPDATE dead_letters SET state = 'replaying', due_at = now(), replays = 0"
            " WHERE job_id = 'unknown-1'"
        )
    bench.replay_due()
    entries = [fields for _, fields in bench.redis.xrange(bench.stream)]
    assert sorted((each[b"jobId"], each[b"attempt"]) for each in entries) == [
        (known.encode(), b"0"),
        (b"unknown-1", b"0"),
    ]


def test_a_report_that_could_not_be_kept_goes_onto_its_stream_again(bench: Bench) -> None:
    report = json.dumps({"job_id": "job-1", "hls": "http://h/a.m3u8?key=hush"})
    bench.kill_entry({"report": report}, dead_stream=f"{bench.stream}:reports:dlq")
    letter = bench.only(source="reports")
    assert (letter["job_id"], letter["kind"]) == ("job-1", "stream_report")
    assert "hush" not in json.dumps(letter)
    assert bench.replay(letter).startswith("send_again: ")
    ((_, fields),) = bench.redis.xrange(f"{bench.stream}:reports")
    assert fields == {b"report": report.encode()}


def test_bytes_that_are_no_text_come_back_as_they_were(bench: Bench) -> None:
    fields: dict[Any, Any] = {b"\xff\x00": b"\xfe", b"cctvId": b"\x00", b"reason": b"r"}
    bench.redis.xadd(bench.dead_stream, fields)
    assert bench.replay(bench.only()).startswith("send_again: ")
    ((_, again),) = bench.redis.xrange(bench.stream)
    assert again == {b"\xff\x00": b"\xfe", b"cctvId": b"\x00", b"attempt": b"0"}


def test_a_poisoned_report_is_applied_again_and_may_die_again(bench: Bench) -> None:
    inbox_id = bench.poison(bench.scene.job(enqueue=False))
    letter = bench.only(source="webhook")
    assert (letter["source_id"], letter["code"], letter["attempts"]) == (
        str(inbox_id),
        "KeyError",
        5,
    )
    assert "hush" not in json.dumps(letter)
    assert bench.replay(letter).startswith("apply_again: ")
    row = bench.report(inbox_id)
    assert (row.attempts, row.outcome, row.applied_at) == (0, None, None)
    with bench.scene.database.begin() as session:
        session.merge(row).outcome = "poisoned: gave up after 5 attempts: ValueError"
    assert (again := bench.only())["id"] == letter["id"]
    assert (again["state"], again["code"], again["replays"]) == ("dead", "ValueError", 1)


def test_what_is_dropped_is_gone_where_it_died(bench: Bench) -> None:
    inbox_id = bench.poison(bench.scene.job(enqueue=False))
    bench.kill_entry({"cctvId": "c"})
    bench.collect()
    assert bench.post("/dead-letters/drop", all=True, dry_run=True) == {
        "dry_run": True,
        "letters": 2,
    }
    assert len(bench.found(state="dead")) == 2
    assert bench.post("/dead-letters/drop", all=True)["letters"] == 2
    bench.collect()
    assert bench.redis.xlen(bench.dead_stream) == 0
    row = bench.report(inbox_id)
    assert row.applied_at is not None
    assert row.outcome == "dropped: poisoned: gave up after 5 attempts: KeyError"
    assert {letter["state"] for letter in bench.found()} == {"dropped"}


def test_a_source_at_fault_keeps_no_other_waiting(bench: Bench) -> None:
    bench.redis.set(bench.dead_stream, "no stream")
    bench.kill_sqs(bench.queues.urls.results, "no report")
    letter = bench.only()
    assert (letter["source"], letter["code"]) == ("sqs", "not_a_report")
