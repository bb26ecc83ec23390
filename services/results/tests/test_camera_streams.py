"""Camera jobs come over two Redis streams (V9), whatever happens to replicas and to Redis."""

import json
import signal
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from camera_harness import HLS, Streams, entry, in_process, report, result
from results_harness import Bench, Collector, Replica, running, settings_of
from sqlalchemy import func, select

from headrace_common.contracts import EventType, JobKind, JobStatus
from headrace_common.contracts.cctv import CctvState, PreprocessEntry
from headrace_common.db import Job
from headrace_local.waiting import wait_until
from headrace_results.process import ResultsProcess

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def camera_env(service_env: dict[str, str]) -> dict[str, str]:
    return service_env | {
        "REDIS_STREAM": f"stream:{uuid.uuid4().hex[:8]}",
        "DRAMATIQ_NAMESPACE": f"cameras-{uuid.uuid4().hex[:8]}",
        "CCTV_CLAIM_SECONDS": "1",
        "CCTV_UNQUEUED_AFTER_SECONDS": "1",
    }


@pytest.fixture(scope="module")
def streams(bench: Bench, camera_env: dict[str, str]) -> Streams:
    return Streams(bench.redis, camera_env["REDIS_STREAM"])


@pytest.fixture(scope="module")
def replica(
    camera_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Replica]:
    with running(camera_env, tmp_path_factory.mktemp("cameras") / "log") as one:
        yield one


@pytest.fixture
def own(bench: Bench) -> Streams:
    """Streams that no other test and no replica reads."""
    return Streams(bench.redis)


def exists(bench: Bench, job_id: str) -> bool:
    with bench.database.begin() as session:
        return session.get(Job, job_id) is not None


def taken(bench: Bench, streams: Streams, fields: dict[str, str]) -> tuple[str, str]:
    """Put an entry on the stream, wait until its job is there, and return both ids."""
    entry_id = streams.add(fields)
    job_id = PreprocessEntry.parse(fields).job_id
    wait_until(lambda: exists(bench, job_id))
    return job_id, entry_id


def told(bench: Bench, job_id: str) -> list[tuple[EventType, JobStatus, int]]:
    return [(event.type, event.status, event.progress) for event in bench.events(job_id)]


def applied(bench: Bench, job_id: str, count: int) -> list[str]:
    """Wait until so many reports are applied, and return what each did."""

    def rows() -> list[str] | None:
        found = bench.inbox(job_id)
        done = [row.outcome or "" for row in found if row.applied_at]
        return done if len(done) == count == len(found) else None

    found: list[str] = wait_until(rows)
    return found


def test_an_entry_is_seen_before_a_worker_touches_it(
    bench: Bench, streams: Streams, replica: Replica
) -> None:
    fields = entry("L 1/é".replace("/", "-"), extra="kept")
    trace = uuid.uuid4().hex
    fields["traceparent"] = f"00-{trace}-00f067aa0ba902b7-01"
    job_id, entry_id = taken(bench, streams, fields)

    shown = bench.get(replica, f"/jobs/{job_id}").json()
    assert (shown["kind"], shown["status"], shown["progress"]) == ("cctv_preprocess", "queued", 50)
    assert (shown["queue_message_id"], shown["trace_id"]) == (entry_id, trace)
    assert shown["input"] == {
        "cctv_id": fields["cctvId"],
        "hls": "https://[redacted]@cam.example.org/live.m3u8?token=[redacted]",
        "sec": 20.0,
        "attempt": 0,
        "enqueued_at": int(fields["enqueuedAt"]),
        "extra_fields": {"extra": "kept"},
    }
    listed = bench.get(replica, "/jobs", params={"kind": "cctv_preprocess"}).json()["jobs"]
    assert job_id in {job["job_id"] for job in listed}
    wait_until(lambda: streams.pending(streams.name) == 0)
    assert entry_id in [each for each, _ in streams.entries()], "the workers still need it"


def test_a_job_goes_its_way_and_is_followed(
    bench: Bench, streams: Streams, replica: Replica
) -> None:
    fields = entry()
    job_id, entry_id = taken(bench, streams, fields)
    watching = Collector(bench, replica, job_id)
    for number, (stage, percent) in enumerate(
        [(None, 0), ("reading", 10), ("background", 40), ("detecting", 60), ("uploading", 90)]
    ):
        streams.report(
            fields, entry_id, CctvState.PROCESSING, stage=stage, progress=percent, message="at work"
        )
        applied(bench, job_id, number + 1)
    done = result(job_id, fields["cctvId"])
    streams.report(
        fields, entry_id, CctvState.COMPLETED, result=done, progress=100, message="3 damages found"
    )

    assert applied(bench, job_id, 6) == ["applied"] * 6
    job = bench.view(job_id)
    assert (job.status, job.progress, job.message) == (
        JobStatus.COMPLETED, 100, "3 damages found",
    )  # fmt: skip
    assert job.result is not None
    assert (job.result["damages"], job.result["folder"]) == (3, done["folder"])
    assert (job.metadata["attempt"], job.metadata["consumer"]) == (0, "worker-1")
    assert told(bench, job_id) == [
        (EventType.STATUS, JobStatus.QUEUED, 50),
        (EventType.STATUS, JobStatus.PROCESSING, 50),
        (EventType.PROGRESS, JobStatus.PROCESSING, 54),
        (EventType.PROGRESS, JobStatus.PROCESSING, 69),
        (EventType.PROGRESS, JobStatus.PROCESSING, 79),
        (EventType.PROGRESS, JobStatus.PROCESSING, 94),
        (EventType.STATUS, JobStatus.COMPLETED, 100),
    ]
    assert [event.data.get("stage") for event in bench.events(job_id)][2:6] == [
        "reading", "background", "detecting", "uploading",
    ]  # fmt: skip
    assert watching.end().ids == list(range(1, 8))
    assert watching.named("queue_position") == [], "it waits in no lane"
    wait_until(lambda: streams.client.xlen(streams.reports) == 0)


def test_a_failed_attempt_is_told_and_the_status_stays(
    bench: Bench, streams: Streams, replica: Replica
) -> None:
    fields = entry()
    job_id, entry_id = taken(bench, streams, fields)
    streams.report(fields, entry_id, "processing", stage="detecting", progress=60)
    applied(bench, job_id, 1)
    due = datetime.now(UTC) + timedelta(minutes=1)
    streams.report(
        fields,
        entry_id,
        "queued",
        message=f"Attempt 2 of 4 is due at {due:%T}: cannot read {HLS}",
        retry_at=due,
        error={"code": "stream_stalled", "message": f"cannot read {HLS}"},
    )
    applied(bench, job_id, 2)

    event = bench.events(job_id)[-1]
    assert (event.type, event.status, event.progress) == (
        EventType.PROGRESS, JobStatus.PROCESSING, 79,
    )  # fmt: skip
    assert event.message.startswith("Attempt 2 of 4 is due at ")
    assert event.data["attempt"] == 1
    assert event.data["code"] == "stream_stalled"
    assert datetime.fromisoformat(str(event.data["retry_at"])) == due

    again = fields | {"attempt": "1", "jobId": job_id}
    second = streams.add(again)
    wait_until(lambda: bench.view(job_id).queue_message_id == second)
    assert bench.events(job_id)[-1].message == "Retry 1 waits in the stream"
    streams.report(again, second, "processing", consumer="worker-2", message="Started")
    streams.report(again, second, "processing", stage="reading", progress=10)
    applied(bench, job_id, 4)
    assert [(e.status, e.progress) for e in bench.events(job_id)[-2:]] == [
        (JobStatus.PROCESSING, 79),
        (JobStatus.PROCESSING, 79),
    ]
    assert bench.events(job_id)[-1].data["stage"] == "reading"
    streams.report(
        again, second, "failed", message="gave up", error={"code": "not_video", "message": "no"}
    )
    applied(bench, job_id, 5)
    job = bench.view(job_id)
    assert (job.status, job.error and job.error.code) == (JobStatus.FAILED, "not_video")


def test_no_answer_event_or_log_shows_the_cameras_credentials(
    bench: Bench, streams: Streams, replica: Replica
) -> None:
    hls = f"{HLS}&a-name-that-nobody-knows=se-cret&x=1"
    fields = entry(hls=hls)
    job_id, entry_id = taken(bench, streams, fields)
    streams.report(fields, entry_id, "processing", message=f"Reading {hls}")
    long = f"no {hls}{'&y=1' * 250}"[:1_000]  # longer still without the values
    streams.report(fields, entry_id, "failed", message=long, error={"code": "x", "message": long})
    applied(bench, job_id, 2)

    answers = [
        bench.get(replica, path).text
        for path in (
            f"/jobs/{job_id}",
            "/jobs",
            f"/jobs/{job_id}/timeline",
            f"/jobs/{job_id}/reports",
        )
    ]
    streamed = json.dumps([event.data for event in Collector(bench, replica, job_id).end().seen])
    for text in (*answers, streamed, replica.log):
        assert "pass-word" not in text
        assert "se-cret" not in text
    with bench.database.begin() as session:
        row = session.get_one(Job, job_id)
        assert row.input["hls"] == hls, "it may have to be put on the stream again"


@pytest.mark.parametrize("state", ["processing", "queued", "completed", "failed"])
def test_a_report_may_come_before_its_entry(
    bench: Bench, own: Streams, camera_env: dict[str, str], state: str
) -> None:
    fields = entry()
    job_id = PreprocessEntry.parse(fields).job_id
    more: dict[str, Any] = (
        {"result": result(job_id, fields["cctvId"])} if state == "completed" else {}
    )
    own.report(fields, "1-1", state, **more)
    with in_process(camera_env, REDIS_STREAM=own.name):
        wait_until(lambda: exists(bench, job_id))
        assert applied(bench, job_id, 1) == ["applied"]
        assert bench.view(job_id).status == JobStatus(state)
        before = len(bench.events(job_id))
        own.client.xadd(own.name, dict(fields), id="1-1")
        wait_until(own.is_taken_in)
        assert len(bench.events(job_id)) == before, "that entry was known"


def test_late_and_doubled_reports_change_nothing_and_are_recorded(
    bench: Bench, streams: Streams, replica: Replica
) -> None:
    fields = entry()
    job_id, entry_id = taken(bench, streams, fields)
    now = datetime.now(UTC)
    progress = report(fields, entry_id, "processing", stage="detecting", progress=60, at=now)
    late = report(
        fields, entry_id, "processing", stage="reading", progress=5, at=now - timedelta(seconds=3)
    )
    for number, one in enumerate((progress, progress, late)):
        streams.client.xadd(streams.reports, dict(one))
        applied(bench, job_id, number + 1)
    assert applied(bench, job_id, 3)[1:] == ["ignored: something newer was reported before"] * 2
    assert (bench.view(job_id).progress, bench.view(job_id).metadata["stage"]) == (79, "detecting")

    done = report(fields, entry_id, "completed", result=result(job_id, fields["cctvId"]))
    failed = report(fields, entry_id, "failed", error={"code": "x", "message": "x"})
    for number, one in enumerate((done, done, failed, late)):
        streams.client.xadd(streams.reports, dict(one))
        applied(bench, job_id, 4 + number)
    assert applied(bench, job_id, 7)[3:] == ["applied"] + ["ignored: job is completed"] * 3
    job = bench.view(job_id)
    assert (job.status, job.progress, job.error) == (JobStatus.COMPLETED, 100, None)
    assert [event.type for event in bench.events(job_id)].count(EventType.IGNORED) == 5


def test_another_delivery_is_news_whatever_its_clock_says(
    bench: Bench, streams: Streams, replica: Replica
) -> None:
    fields = entry()
    job_id, entry_id = taken(bench, streams, fields)
    streams.report(fields, entry_id, "processing", progress=60)
    applied(bench, job_id, 1)
    behind = datetime.now(UTC) - timedelta(hours=1)
    streams.report(
        fields, entry_id, "processing", progress=20, delivery=2, consumer="worker-2", at=behind
    )
    assert applied(bench, job_id, 2) == ["applied", "applied"]
    job = bench.view(job_id)
    assert (job.metadata["consumer"], job.metadata["delivery"], job.progress) == ("worker-2", 2, 79)


def test_a_cancelled_job_stays_cancelled(bench: Bench, streams: Streams, replica: Replica) -> None:
    fields = entry()
    job_id, entry_id = taken(bench, streams, fields)
    bench.change(job_id, JobStatus.CANCELLED)
    streams.report(fields, entry_id, "processing", progress=10)
    streams.report(fields, entry_id, "completed", result=result(job_id, fields["cctvId"]))
    assert applied(bench, job_id, 2) == ["ignored: job is cancelled"] * 2
    assert (bench.view(job_id).status, bench.view(job_id).result) == (JobStatus.CANCELLED, None)


def test_an_entry_that_is_no_job_is_left_to_the_workers(
    bench: Bench, streams: Streams, replica: Replica
) -> None:
    bad: list[dict[Any, Any]] = [
        {"cctvId": "only"},
        entry(hls="file:///etc/passwd"),
        entry("a/b"),
        {b"\xff": b"\xfe"},
        entry(**{f"f{number}": "x" for number in range(200)}),
    ]
    for fields in bad:
        streams.client.xadd(streams.name, fields)
    job_id, _ = taken(bench, streams, entry())  # those behind them are not held up
    wait_until(streams.is_taken_in)
    assert bench.view(job_id).status is JobStatus.QUEUED


def test_a_report_that_is_none_goes_to_the_dead_letters_and_holds_nobody_up(
    bench: Bench, streams: Streams, replica: Replica
) -> None:
    audio = bench.job()
    foreign = report(entry(jobId=audio), "1-1", "failed", error={"code": "x", "message": "x"})
    bad: list[dict[Any, Any]] = [
        {"report": "{"},
        {"report": '{"job_id": "x"}'},
        {"other": "x"},
        dict(foreign),
    ]
    for fields in bad:
        streams.client.xadd(streams.reports, fields)
    good = entry()
    job_id, entry_id = taken(bench, streams, good)
    streams.report(good, entry_id, "processing")
    assert applied(bench, job_id, 1) == ["applied"]

    wait_until(lambda: streams.client.xlen(streams.reports) == 0)
    letters: Any = streams.client.xrange(f"{streams.reports}:dlq")
    assert len(letters) == len(bad)
    assert all(fields[b"reason"] and fields[b"sourceId"] for _, fields in letters)
    assert bench.view(audio).status is JobStatus.QUEUED_FOR_ANALYSIS
    assert bench.inbox(audio) == []


def test_a_report_on_an_entry_that_is_no_job_makes_a_failed_job(
    bench: Bench, streams: Streams, replica: Replica
) -> None:
    job_id = f"job-{uuid.uuid4()}"
    body = {
        "job_id": job_id,
        "entry": {"jobId": job_id, "cctvId": "c", "hls": "nonsense"},
        "entry_id": "1-1",
        "state": "failed",
        "message": "sec: Field required",
        "consumer": "worker-1",
        "error": {"code": "malformed_entry", "message": "sec: Field required"},
        "at": datetime.now(UTC).isoformat(),
    }
    streams.client.xadd(streams.reports, {"report": json.dumps(body)})
    wait_until(lambda: exists(bench, job_id))
    assert applied(bench, job_id, 1) == ["applied"]
    job = bench.view(job_id)
    assert (job.status, job.error and job.error.code) == (JobStatus.FAILED, "malformed_entry")


def test_an_analysis_server_has_no_say_in_a_cameras_job(
    bench: Bench, streams: Streams, replica: Replica
) -> None:
    job_id, _ = taken(bench, streams, entry())
    assert bench.report(replica, job_id, {"status": "completed"}).status_code == 202
    [outcome] = applied(bench, job_id, 1)
    assert outcome == "ignored: webhook does not report on jobs of kind cctv_preprocess"
    assert bench.view(job_id).status is JobStatus.QUEUED


def test_what_workers_had_done_before_us_is_no_job(
    bench: Bench, own: Streams, camera_env: dict[str, str]
) -> None:
    """The stream of a system that is being replaced still has all it ever did."""
    old = [entry() for _ in range(5)]
    for fields in old:
        own.add(fields)
    done = own.work(5)
    for entry_id in done[:3]:
        own.acknowledge(entry_id)
    waiting = entry()
    own.add(waiting)
    with in_process(camera_env, REDIS_STREAM=own.name):
        wait_until(own.is_taken_in)
    ids = [PreprocessEntry.parse(fields).job_id for fields in (*old, waiting)]
    assert [exists(bench, job_id) for job_id in ids] == [False] * 3 + [True] * 3


def test_many_at_once_over_two_replicas_one_of_which_is_killed(
    bench: Bench, own: Streams, camera_env: dict[str, str], tmp_path: Path
) -> None:
    everything = [entry(f"cam-{number}") for number in range(250)]
    jobs = {PreprocessEntry.parse(fields).job_id: fields for fields in everything}
    with own.client.pipeline(transaction=False) as pipeline:
        for fields in everything:
            pipeline.xadd(own.name, dict(fields))
        added = [each.decode() for each in pipeline.execute()]
        for fields, entry_id in list(zip(everything, added, strict=True))[:75]:
            done = result(PreprocessEntry.parse(fields).job_id, fields["cctvId"])
            pipeline.xadd(own.reports, dict(report(fields, entry_id, "completed", result=done)))
        pipeline.execute()
    alone = {"REDIS_STREAM": own.name}

    def rows(*statuses: JobStatus) -> int:
        with bench.database.begin() as session:
            wanted = Job.id.in_(list(jobs)) & Job.status.in_(statuses or list(JobStatus))
            return session.scalar(select(func.count()).select_from(Job).where(wanted)) or 0

    with (
        running(camera_env, tmp_path / "killed", **alone) as killed,
        running(camera_env, tmp_path / "stays", **alone),
    ):
        wait_until(lambda: rows() > 25)
        killed.process.send_signal(signal.SIGKILL)
        killed.process.wait()
        wait_until(lambda: rows(JobStatus.COMPLETED) == 75, seconds=150)
        wait_until(lambda: rows(JobStatus.QUEUED) == 175, seconds=150)
        wait_until(lambda: own.pending(own.name) == own.pending(own.reports) == 0)
        wait_until(lambda: own.client.xlen(own.reports) == 0)
    # Jobs that other tests left in the database come along.
    assert sum(job_id in jobs for job_id in own.job_ids()) == 250


@pytest.mark.parametrize("stream", ["entries", "reports"])
def test_what_a_dead_replica_held_is_taken_over(
    bench: Bench, own: Streams, camera_env: dict[str, str], stream: str
) -> None:
    fields = entry()
    job_id = PreprocessEntry.parse(fields).job_id
    if stream == "entries":
        own.add(fields)
        key = own.name
    else:
        own.report(fields, "1-1", "processing")
        key = own.reports
    own.client.xgroup_create(key, "results", id="0")
    held: Any = own.client.xreadgroup("results", "a-dead-replica", {key: ">"})
    assert len(held[0][1]) == 1
    with in_process(camera_env, REDIS_STREAM=own.name):
        wait_until(lambda: exists(bench, job_id))
        wait_until(lambda: own.pending(key) == 0)


def test_it_can_be_switched_off(bench: Bench, own: Streams, camera_env: dict[str, str]) -> None:
    settings = settings_of({**camera_env, "REDIS_STREAM": own.name, "CCTV_ENABLED": "false"})
    names = [check.name for check in (*ResultsProcess(settings).alive(),)]
    assert not [name for name in names if "camera" in name]


def test_the_service_lives_without_redis_and_says_so(
    bench: Bench, camera_env: dict[str, str], tmp_path: Path
) -> None:
    with running(camera_env, tmp_path / "log", REDIS_URL="redis://127.0.0.1:1/0") as replica:
        wait_until(
            lambda: not bench.get(replica, "/health").json()["checks"]["camera_entries_works"]["ok"]
        )
        assert bench.get(replica, "/health/live").status_code == 200
        assert replica.stop() < 30, "its grace is ten seconds"


def test_kinds_are_told_apart(bench: Bench, streams: Streams, replica: Replica) -> None:
    taken(bench, streams, entry())
    for kind in JobKind:
        jobs = bench.get(replica, "/jobs", params={"kind": kind}).json()["jobs"]
        assert {job["kind"] for job in jobs} <= {kind}
