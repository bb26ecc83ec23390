"""The guard, the timeline and the queries, on a real database."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import redis

from headrace_common.contracts.events import EVENTS_CHANNEL, EventType, JobEvent
from headrace_common.contracts.jobs import JobKind, JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_common.db import Database, Job
from headrace_common.errors import BadRequestError, NotFoundError
from headrace_common.jobs import (
    Change,
    EventPublisher,
    Failure,
    JobFilter,
    JobQueries,
    JobStore,
    JobView,
    NewJob,
)
from headrace_common.redis_client import redis_client
from headrace_common.settings import RedisSettings
from headrace_local.pytest_plugin import LocalServers


@pytest.fixture
def publisher(local_servers: LocalServers) -> Iterator[EventPublisher]:
    settings = RedisSettings.model_validate(
        {"redis_url": local_servers.redis_url, "redis_password": local_servers.redis_password}
    )
    client = redis_client(settings)
    yield EventPublisher(client)
    client.close()


@pytest.fixture
def store(database: Database, publisher: EventPublisher) -> JobStore:
    return JobStore(database, publisher, retention=timedelta(days=7))


def new_job(store: JobStore, *, status: JobStatus | None = None, lane: Lane = Lane.NORMAL) -> str:
    job_id = f"job-{uuid4()}"
    store.create(
        NewJob(id=job_id, kind=JobKind.AUDIO_ANALYSIS, lane=lane, message="Uploading", token_id="t")
    )
    steps = [JobStatus.QUEUING, JobStatus.QUEUED, JobStatus.PROCESSING]
    steps.append(JobStatus.QUEUED_FOR_ANALYSIS)
    if status is not None:
        for step in steps[: steps.index(status) + 1]:
            assert store.apply([Change(job_id=job_id, to=step, message=step)])[0].applied
    return job_id


def load(database: Database, job_id: str) -> Job:
    with database.begin() as session:
        return JobQueries(session).get(job_id)


def timeline(database: Database, job_id: str) -> list[JobEvent]:
    with database.begin() as session:
        return JobQueries(session).events_after(job_id, 0, limit=1_000)


def test_a_job_goes_its_way_and_writes_its_history(store: JobStore, database: Database) -> None:
    job_id = new_job(store, status=JobStatus.QUEUED_FOR_ANALYSIS)
    store.apply(
        [Change(job_id=job_id, to=JobStatus.COMPLETED, message="Done", result={"score": 1})]
    )
    job = load(database, job_id)
    assert (job.status, job.progress, job.result) == ("completed", 100, {"score": 1})
    assert job.finished_at is not None
    assert job.retain_until is not None
    # Two looks at the clock within one statement.
    assert abs(job.retain_until - job.finished_at - timedelta(days=7)) < timedelta(seconds=1)
    events = timeline(database, job_id)
    assert [event.sequence for event in events] == list(range(1, 7))
    assert [event.progress for event in events] == [10, 40, 50, 50, 80, 100]
    assert [event.created_at for event in events] == sorted(event.created_at for event in events)


def test_what_comes_late_is_recorded_and_changes_nothing(
    store: JobStore, database: Database
) -> None:
    job_id = new_job(store, status=JobStatus.QUEUED_FOR_ANALYSIS)
    store.apply([Change(job_id=job_id, to=JobStatus.CANCELLED, message="Cancelled")])
    late = Change(job_id=job_id, to=JobStatus.COMPLETED, message="Done", result={"score": 1})
    outcome = store.apply([late])[0]
    assert not outcome.applied
    assert outcome.status is JobStatus.CANCELLED
    job = load(database, job_id)
    assert (job.status, job.progress, job.result) == ("cancelled", 80, None)
    last = timeline(database, job_id)[-1]
    assert (last.type, last.status) == (EventType.IGNORED, JobStatus.CANCELLED)
    assert last.data == {"ignored_status": "completed"}


def test_progress_never_falls(store: JobStore, database: Database) -> None:
    job_id = new_job(store, status=JobStatus.QUEUED_FOR_ANALYSIS)
    analysing = Change(job_id=job_id, to=JobStatus.QUEUED_FOR_ANALYSIS, message="", progress=90)
    outcomes = store.apply([analysing, replace(analysing, progress=85)])
    assert [outcome.applied for outcome in outcomes] == [True, False]
    assert load(database, job_id).progress == 90
    failed = Change(
        job_id=job_id, to=JobStatus.FAILED, message="No", failure=Failure("no_speech", "No speech")
    )
    store.apply([failed])
    job = load(database, job_id)
    assert (job.progress, job.error_code, job.error_message) == (90, "no_speech", "No speech")


def test_metadata_merges_even_where_the_change_is_refused(
    store: JobStore, database: Database
) -> None:
    job_id = new_job(store)
    store.apply(
        [Change(job_id=job_id, to=JobStatus.QUEUING, message="", metadata={"a": 1, "b": 1})]
    )
    store.apply([Change(job_id=job_id, to=JobStatus.QUEUED, message="", metadata={"b": 2})])
    store.apply([Change(job_id=job_id, to=JobStatus.COMPLETED, message="")])
    sent = Change(
        job_id=job_id,
        to=JobStatus.QUEUED_FOR_ANALYSIS,
        message="",
        metadata={"sqs_message_id": "m-1"},
    )
    assert not store.apply([sent])[0].applied
    job = load(database, job_id)
    assert job.meta == {"a": 1, "b": 2, "sqs_message_id": "m-1"}
    assert job.status == JobStatus.COMPLETED


def test_of_a_hundred_answers_at_once_one_counts(store: JobStore, database: Database) -> None:
    job_id = new_job(store, status=JobStatus.QUEUED_FOR_ANALYSIS)

    def answer(number: int) -> bool:
        change = Change(
            job_id=job_id, to=JobStatus.COMPLETED, message="Done", result={"number": number}
        )
        return store.apply([change])[0].applied

    with ThreadPoolExecutor(16) as pool:
        applied = [number for number, won in enumerate(pool.map(answer, range(100))) if won]
    assert len(applied) == 1
    assert load(database, job_id).result == {"number": applied[0]}
    events = timeline(database, job_id)
    assert (
        sum(
            event.status is JobStatus.COMPLETED and event.type is EventType.STATUS
            for event in events
        )
        == 1
    )
    assert sum(event.type is EventType.IGNORED for event in events) == 99
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))


def test_a_batch_is_one_transaction_in_the_callers_order(
    store: JobStore, database: Database
) -> None:
    ids = [new_job(store, status=JobStatus.QUEUED) for _ in range(10)]
    finished = ids[3]
    store.apply([Change(job_id=finished, to=JobStatus.CANCELLED, message="")])
    outcomes = store.apply(
        [Change(job_id=job_id, to=JobStatus.PROCESSING, message="") for job_id in reversed(ids)]
    )
    assert [outcome.job_id for outcome in outcomes] == ids[::-1]
    assert [outcome.applied for outcome in outcomes] == [job_id != finished for job_id in ids[::-1]]
    before = [load(database, job_id).event_sequence for job_id in ids]
    with pytest.raises(NotFoundError):
        store.apply(
            [
                Change(job_id=ids[0], to=JobStatus.COMPLETED, message=""),
                Change(job_id="nobody", to=JobStatus.COMPLETED, message=""),
            ]
        )
    assert [load(database, job_id).event_sequence for job_id in ids] == before


def test_batches_that_overlap_do_not_deadlock(store: JobStore, database: Database) -> None:
    ids = [new_job(store, status=JobStatus.QUEUED) for _ in range(8)]
    ready = threading.Barrier(4)

    def work(turn: int) -> None:
        order = ids if turn % 2 else ids[::-1]
        ready.wait(timeout=60)
        for _ in range(10):
            store.apply(
                [
                    Change(job_id=i, to=JobStatus.PROCESSING, message="", takes_up=True)
                    for i in order
                ]
            )

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert [load(database, job_id).deliveries for job_id in ids] == [40] * 8


def test_deliveries_and_the_clock_belong_to_the_stage(store: JobStore, database: Database) -> None:
    job_id = new_job(store, status=JobStatus.QUEUED)
    take_up = Change(job_id=job_id, to=JobStatus.PROCESSING, message="", takes_up=True)
    assert [store.apply([take_up])[0].deliveries for _ in range(3)] == [1, 2, 3]
    entered = load(database, job_id).stage_entered_at
    store.apply([Change(job_id=job_id, to=JobStatus.PROCESSING, message="")])
    assert load(database, job_id).stage_entered_at == entered
    store.apply([replace(take_up, takes_up=False, restarts_stage=True)])
    assert load(database, job_id).stage_entered_at > entered
    store.apply([replace(take_up, to=JobStatus.QUEUED_FOR_ANALYSIS)])
    assert load(database, job_id).deliveries == 1


def test_a_sender_that_repeats_itself_does_not_fill_the_database(
    store: JobStore, database: Database
) -> None:
    job_id = new_job(store, status=JobStatus.QUEUED)
    store.apply([Change(job_id=job_id, to=JobStatus.COMPLETED, message="")])
    for _ in range(30):
        store.apply([Change(job_id=job_id, to=JobStatus.COMPLETED, message="")] * 10)
    assert len(timeline(database, job_id)) == 200


def test_events_are_published_after_the_commit(
    store: JobStore, database: Database, local_servers: LocalServers
) -> None:
    client = redis.Redis.from_url(local_servers.redis_url, password=local_servers.redis_password)
    with client.pubsub() as subscription:  # type: ignore[no-untyped-call]  # redis-py's
        subscription.subscribe(EVENTS_CHANNEL)
        assert subscription.get_message(timeout=30) is not None
        job_id = new_job(store, status=JobStatus.QUEUED)
        received: list[JobEvent] = []
        while len(received) < 3:
            message = subscription.get_message(timeout=30)
            assert message is not None, "no event within half a minute"
            event = JobEvent.model_validate_json(message["data"])
            if event.job_id == job_id:
                received.append(event)
    client.close()
    assert received == timeline(database, job_id)


def test_jobs_change_while_redis_is_away(database: Database) -> None:
    settings = RedisSettings.model_validate({"redis_url": "redis://127.0.0.1:1/0"})
    store = JobStore(database, EventPublisher(redis_client(settings)), retention=timedelta(days=1))
    job_id = new_job(store, status=JobStatus.QUEUED)
    assert load(database, job_id).status == JobStatus.QUEUED


def test_the_place_in_a_lane_counts_who_waits_ahead(store: JobStore, database: Database) -> None:
    first, second, third = (new_job(store, status=JobStatus.QUEUED) for _ in range(3))
    other = new_job(store, status=JobStatus.QUEUED, lane=Lane.HIGH)
    with database.begin() as session:
        places = JobQueries(session).places([first, second, third, other, "nobody"])
    assert places == {first: 1, second: 2, third: 3, other: 1}
    store.apply([Change(job_id=first, to=JobStatus.PROCESSING, message="")])
    with database.begin() as session:
        queries = JobQueries(session)
        assert queries.places([first, third]) == {third: 2}
        counts = queries.lane_counts()
    assert (counts[Lane.NORMAL].waiting, counts[Lane.NORMAL].started) == (2, 1)
    assert counts[Lane.HIGH].waiting == 1
    assert counts[Lane.LOW].waiting == 0


def test_pages_have_every_job_once(store: JobStore, database: Database) -> None:
    ids = [new_job(store) for _ in range(7)]
    seen: list[str] = []
    cursor = None
    while True:
        with database.begin() as session:
            page = JobQueries(session).page(JobFilter(token_id="t"), limit=3, cursor=cursor)
        seen += [job.id for job in page.jobs]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == ids[::-1]


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "e30=",
        "WzEsMl0=",
        "größe",
        "WyIyMDI2LTAxLTAxIiwiXHUwMDAwIl0=",
        "WyIyMDI2LTAxLTAxIiwgIlx1ZDgwMCJd",
    ],
)
def test_a_made_up_cursor_is_a_clear_error(cursor: str, database: Database) -> None:
    with database.begin() as session, pytest.raises(BadRequestError):
        JobQueries(session).page(JobFilter(), limit=3, cursor=cursor)


def test_filters_narrow(store: JobStore, database: Database) -> None:
    waiting = new_job(store, status=JobStatus.QUEUED, lane=Lane.LOW)
    new_job(store)
    with database.begin() as session:
        queries = JobQueries(session)
        by_status = queries.page(JobFilter(statuses=(JobStatus.QUEUED,)), limit=10).jobs
        by_lane = queries.page(JobFilter(lane=Lane.LOW), limit=10).jobs
        none = queries.page(JobFilter(kind=JobKind.CCTV_PREPROCESS), limit=10).jobs
    assert [job.id for job in by_status] == [job.id for job in by_lane] == [waiting]
    assert none == []


def test_jobs_are_found_by_what_went_wrong(store: JobStore, database: Database) -> None:
    broken, held, _ = (new_job(store, status=JobStatus.PROCESSING) for _ in range(3))
    failure = Failure("broken_audio", "It holds no sound")
    store.apply([Change(job_id=broken, to=JobStatus.FAILED, message="", failure=failure)])
    store.hold(held, until=datetime.now(UTC), waiting_for="sqs", message="")
    with database.begin() as session:
        queries = JobQueries(session)
        for wanted, job_id in (
            (JobFilter(error_code="broken_audio"), broken),
            (JobFilter(waiting_for="sqs"), held),
            (JobFilter(ids=(held, "nobody"), statuses=JobStatus.open()), held),
        ):
            assert [job.id for job in queries.page(wanted, limit=10).jobs] == [job_id]
            assert queries.count(wanted) == 1
        assert queries.count(JobFilter()) == 3


def test_a_missing_job_is_created_by_one_of_many(store: JobStore, database: Database) -> None:
    new = NewJob(
        id=f"job-{uuid4()}",
        kind=JobKind.CCTV_PREPROCESS,
        lane=Lane.NORMAL,
        message="Waiting in the stream",
        status=JobStatus.QUEUED,
        queue_message_id="1-1",
    )

    def create(_: int) -> JobEvent | None:
        with database.begin() as session:
            return store.create_missing_in(session, new)

    with ThreadPoolExecutor(6) as pool:
        events = [event for event in pool.map(create, range(6)) if event is not None]
    assert [(event.sequence, event.status) for event in events] == [(1, JobStatus.QUEUED)]
    job = load(database, new.id)
    assert (job.progress, job.queue_message_id, job.event_sequence) == (50, "1-1", 1)
    assert job.queued_at is not None


def test_processing_tells_progress_that_never_falls(store: JobStore, database: Database) -> None:
    job_id = new_job(store, status=JobStatus.PROCESSING)

    def tell(percent: int) -> tuple[bool, EventType | None]:
        change = Change(job_id=job_id, to=JobStatus.PROCESSING, message="", progress=percent)
        outcome = store.apply([change])[0]
        return outcome.applied, outcome.event.type if outcome.event else None

    assert [tell(percent) for percent in (60, 60, 55, 70)] == [
        (True, EventType.PROGRESS),
        (True, EventType.PROGRESS),
        (False, EventType.IGNORED),
        (True, EventType.PROGRESS),
    ]
    assert load(database, job_id).progress == 70


def test_camera_jobs_have_no_place_in_a_lane(store: JobStore, database: Database) -> None:
    camera = NewJob(
        id=f"job-{uuid4()}",
        kind=JobKind.CCTV_PREPROCESS,
        lane=Lane.NORMAL,
        message="",
        status=JobStatus.QUEUED,
    )
    store.create(camera)
    audio = new_job(store, status=JobStatus.QUEUED)
    with database.begin() as session:
        queries = JobQueries(session)
        assert queries.places([camera.id, audio]) == {audio: 1}
        assert queries.lane_counts()[Lane.NORMAL].waiting == 1


def test_the_credentials_of_a_camera_are_kept_and_not_shown(
    store: JobStore, database: Database
) -> None:
    url = "https://user:pass-word@camera/live.m3u8?token=se-cret&x=1"
    for kind in JobKind:
        job_id = f"job-{uuid4()}"
        store.create(NewJob(id=job_id, kind=kind, lane=Lane.NORMAL, message="", input={"hls": url}))
        job = load(database, job_id)
        assert job.input == {"hls": url}
        shown = JobView.of(job).input["hls"]
        hidden = "https://[redacted]@camera/live.m3u8?token=[redacted]&x=[redacted]"
        assert shown == (hidden if kind is JobKind.CCTV_PREPROCESS else url)


def test_a_new_run_takes_a_finished_job_back_and_starts_its_counts_anew(
    store: JobStore, database: Database
) -> None:
    job_id = new_job(store, status=JobStatus.PROCESSING)
    sent = Change(
        job_id=job_id,
        to=JobStatus.QUEUED_FOR_ANALYSIS,
        message="Sent",
        transport="sqs",
        takes_up=True,
    )
    failed = Change(
        job_id=job_id, to=JobStatus.FAILED, message="No", failure=Failure("broken", "No")
    )
    assert all(outcome.applied for outcome in store.apply([sent, failed]))
    assert load(database, job_id).sent_at is not None

    again = Change(
        job_id=job_id, to=JobStatus.QUEUING, message="Done anew", starts_run=True, progress=40
    )
    outcome = store.apply([again])[0]

    assert outcome.applied
    assert outcome.event is not None
    assert outcome.event.type is EventType.RESTARTED
    job = load(database, job_id)
    assert (job.run, job.status, job.progress, job.deliveries) == (2, "queuing", 40, 0)
    assert (job.error_code, job.finished_at, job.retain_until) == (None, None, None)
    assert (job.transport, job.sent_at) == (None, None)
    late = Change(job_id=job_id, to=JobStatus.UPLOADING, message="Backwards")
    assert not store.apply([late])[0].applied, "only a new run goes back"


def test_a_job_that_is_held_keeps_its_tries_and_tells_it_once(
    store: JobStore, database: Database
) -> None:
    job_id = new_job(store, status=JobStatus.QUEUED)
    store.apply([Change(job_id=job_id, to=JobStatus.PROCESSING, message="1", takes_up=True)])
    until = datetime.now(UTC) + timedelta(seconds=30)
    for _ in range(3):
        assert store.hold(job_id, until=until, waiting_for="sqs", message="SQS is away")
    job = load(database, job_id)
    assert (job.status, job.deliveries, job.waiting_for) == ("processing", 0, "sqs")
    assert job.retry_at == until
    assert [event.message for event in timeline(database, job_id)].count("SQS is away") == 1

    store.apply([Change(job_id=job_id, to=JobStatus.PROCESSING, message="2", takes_up=True)])
    job = load(database, job_id)
    assert (job.retry_at, job.waiting_for, job.deliveries) == (None, None, 1)
    store.apply([Change(job_id=job_id, to=JobStatus.CANCELLED, message="Stop")])
    assert not store.hold(job_id, until=until, waiting_for="sqs", message="SQS is away")


@pytest.mark.parametrize(
    ("status", "discarded"), [(JobStatus.UPLOADING, True), (JobStatus.QUEUED, False)]
)
def test_what_ends_before_it_was_accepted_is_to_be_discarded(
    store: JobStore, database: Database, status: JobStatus, *, discarded: bool
) -> None:
    job_id = new_job(store, status=None if status is JobStatus.UPLOADING else status)
    store.apply([Change(job_id=job_id, to=JobStatus.CANCELLED, message="Stop")])
    assert (load(database, job_id).discard_at is not None) is discarded
