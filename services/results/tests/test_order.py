"""Reports on one job are applied in the order in which they came."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

from headrace_common.contracts import JobKind, JobStatus, Lane
from headrace_common.db import Database
from headrace_common.jobs import Change, EventPublisher, JobQueries, JobStore, NewJob
from headrace_common.redis_client import redis_client
from headrace_common.settings import RedisSettings
from headrace_results import inbox
from headrace_results.applier import ReportApplier
from headrace_results.inbox import NewReport, Source


def test_what_came_earlier_is_applied_first(database: Database) -> None:
    nowhere = RedisSettings.model_validate({"redis_url": "redis://127.0.0.1:1/0"})
    store = JobStore(database, EventPublisher(redis_client(nowhere)), retention=timedelta(days=1))
    job_id = f"job-{uuid4()}"
    store.create(NewJob(id=job_id, kind=JobKind.AUDIO_ANALYSIS, lane=Lane.NORMAL, message=""))
    steps = (JobStatus.QUEUING, JobStatus.QUEUED, JobStatus.QUEUED_FOR_ANALYSIS)
    store.apply([Change(job_id=job_id, to=step, message=step) for step in steps])
    payloads: list[dict[str, Any]] = [
        {"status": "processing", "progress": 20, "message": "first"},
        {"status": "processing", "progress": 90, "message": "second"},
        {"status": "completed", "message": "last", "result": {}},
    ]
    with database.begin() as session:
        kept = [
            inbox.keep(
                session,
                NewReport(
                    job_id=job_id,
                    dedup_key=f"test:{uuid4()}",
                    source=Source.SQS,
                    payload=payload,
                ),
            ).inbox_id
            for payload in payloads
        ]

    applier = ReportApplier(database, store, max_attempts=3)
    for inbox_id in reversed(kept):
        applier.apply(inbox_id)

    with database.begin() as session:
        events = JobQueries(session).events_after(job_id, 4)
    assert [event.message for event in events] == ["first", "second", "last"]
    assert events[-1].status is JobStatus.COMPLETED
