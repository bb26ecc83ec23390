"""Gathering the facts, once, straight from the servers."""

from typing import Final

from headrace_chaos.endpoints import Endpoints
from headrace_chaos.facts import Facts, JobFact, SetFact
from headrace_chaos.ledger import Ledger
from headrace_chaos.looking_database import (
    count_missing,
    open_database,
    read_direct,
    read_events,
    read_jobs,
    read_letters,
    read_open,
    read_references,
    read_reports,
)
from headrace_chaos.looking_queues import redis_messages, redis_of, sqs_messages
from headrace_chaos.looking_storage import (
    SwiftReader,
    read_documents,
    read_multiparts,
    read_objects,
    s3_of,
)
from headrace_common.contracts import JobKind, JobStatus
from headrace_common.contracts.cctv import DEFAULT_STREAM

_NAMESPACE: Final = "dramatiq"


def gather(endpoints: Endpoints) -> Facts:
    """Read everything that the checks want to know."""
    database = open_database(endpoints.settings)
    try:
        with database.begin() as session:
            jobs = read_jobs(session)
            events = read_events(session)
            reports = read_reports(session)
            letters = read_letters(session)
            direct = read_direct(session)
            references = read_references(session)
    finally:
        database.close()
    s3, bucket = s3_of(endpoints), endpoints.settings["S3_BUCKET"]
    completed = [(job.id, f"results/{job.id}/analysis.json") for job in _analysed(jobs)]
    sets, strays = _artifacts(endpoints)
    return Facts(
        jobs=jobs,
        events=events,
        reports=reports,
        letters=letters,
        direct=direct,
        references=references,
        objects=read_objects(s3, bucket),
        documents=read_documents(s3, bucket, completed),
        multiparts=read_multiparts(s3, bucket),
        sets=sets,
        strays=strays,
        messages=messages(endpoints),
    )


def quiescent(endpoints: Endpoints, ledger: Ledger) -> list[str]:
    """Return what is still under way; nothing once everything that may settle has."""
    promises = ledger.promises()
    wanted = [each.job_id for each in promises.jobs.values() if not promises.is_excused(each)]
    database = open_database(endpoints.settings)
    try:
        with database.begin() as session:
            found = read_open(session)
            found["promised jobs without a row"] = count_missing(session, wanted)
    finally:
        database.close()
    found |= messages(endpoints)
    return [f"{count} {reason}" for reason, count in found.items() if count]


def messages(endpoints: Endpoints) -> dict[str, int]:
    """Return how many messages lie where none should, by place."""
    client = redis_of(endpoints)
    settings = endpoints.settings
    try:
        lying = redis_messages(
            client,
            settings.get("DRAMATIQ_NAMESPACE", _NAMESPACE),
            settings.get("REDIS_STREAM", DEFAULT_STREAM),
        )
    finally:
        client.close()
    return lying | sqs_messages(endpoints)


def _analysed(jobs: dict[str, JobFact]) -> list[JobFact]:
    return [
        job
        for job in jobs.values()
        if job.kind == JobKind.AUDIO_ANALYSIS and job.status == JobStatus.COMPLETED
    ]


def _artifacts(endpoints: Endpoints) -> tuple[list[SetFact], list[str]]:
    if not endpoints.swift_url:
        return [], []
    reader = SwiftReader(endpoints)
    try:
        return reader.sets(reader.names())
    finally:
        reader.close()
