"""Gathering the facts straight from the servers, and telling whether all is quiet."""

from dataclasses import replace
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from headrace_chaos.checks_storage import check_objects
from headrace_chaos.endpoints import Endpoints
from headrace_chaos.facts import Facts, JobFact, SetFact
from headrace_chaos.ledger import Ledger, Promises
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
from headrace_chaos.looking_queues import redis_messages, redis_of, sqs_messages, sqs_of
from headrace_chaos.looking_storage import (
    SwiftReader,
    read_documents,
    read_multiparts,
    read_objects,
    s3_of,
)
from headrace_chaos.resting import without_house_keeping
from headrace_common.contracts import JobKind, JobStatus
from headrace_common.contracts.cctv import DEFAULT_STREAM

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

_NAMESPACE: Final = "dramatiq"


def gather(endpoints: Endpoints) -> Facts:
    """Read everything that the checks want to know."""
    with Observer(endpoints) as observer:
        return observer.gather()


def quiescent(endpoints: Endpoints, ledger: Ledger) -> list[str]:
    """Return what is still under way; nothing once everything that may settle has."""
    with Observer(endpoints) as observer:
        return observer.quiescent(ledger)


class Observer:
    """Looks at every server of a stack; connects to each when it is first asked. For one thread."""

    def __init__(self, endpoints: Endpoints) -> None:
        """Look at the stack with these endpoints."""
        self._endpoints = endpoints
        self._settings = endpoints.settings
        self._database = open_database(endpoints.settings)
        self._redis: Any = redis_of(endpoints)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close every connection."""
        self._database.close()
        self._redis.close()
        if "swift" in vars(self):
            self.swift.close()

    @cached_property
    def s3(self) -> "S3Client":
        """A client of S3."""
        return s3_of(self._endpoints)

    @cached_property
    def sqs(self) -> "SQSClient":
        """A client of SQS."""
        return sqs_of(self._endpoints)

    @cached_property
    def swift(self) -> SwiftReader:
        """A reader of Swift."""
        return SwiftReader(self._endpoints)

    def gather(self) -> Facts:
        """Read everything that the checks want to know."""
        with self._database.begin() as session:
            jobs = read_jobs(session)
            events = read_events(session)
            reports = read_reports(session)
            letters = read_letters(session)
            direct = read_direct(session)
            references = read_references(session)
        bucket = self._settings["S3_BUCKET"]
        results = [(job.id, f"results/{job.id}/analysis.json") for job in _analysed(jobs)]
        sets, strays = self._artifacts()
        return Facts(
            jobs=jobs,
            events=events,
            reports=reports,
            letters=letters,
            direct=direct,
            references=references,
            objects=read_objects(self.s3, bucket),
            documents=read_documents(self.s3, bucket, results),
            multiparts=read_multiparts(self.s3, bucket),
            sets=sets,
            strays=strays,
            messages=self.messages(),
        )

    def quiescent(self, ledger: Ledger) -> list[str]:
        """Return what is still under way; nothing once everything that may settle has."""
        promises = ledger.promises()
        wanted = [each.job_id for each in promises.jobs.values() if not promises.is_excused(each)]
        with self._database.begin() as session:
            found = read_open(session)
            found["promised jobs without a row"] = count_missing(session, wanted)
        found |= without_house_keeping(self.messages())
        if not any(found.values()):
            found |= self._leftovers()
        return [f"{count} {reason}" for reason, count in found.items() if count]

    def _leftovers(self) -> dict[str, int]:
        """Return how much is still to be cleared away in the stores, which takes a while."""
        with self._database.begin() as session:
            facts = Facts(jobs=read_jobs(session), references=read_references(session))
        bucket = self._settings["S3_BUCKET"]
        stored = replace(
            facts,
            objects=read_objects(self.s3, bucket),
            multiparts=read_multiparts(self.s3, bucket),
        )
        orphans = sum(1 for _ in check_objects(stored, Promises()))
        unfinished = self.swift.unfinished() if self._endpoints.swift_url else 0
        return {"things of nobody in S3": orphans, "unfinished sets in Swift": unfinished}

    def messages(self) -> dict[str, int]:
        """Return how many messages lie where none should, by place."""
        lying = redis_messages(
            self._redis,
            self._settings.get("DRAMATIQ_NAMESPACE", _NAMESPACE),
            self._settings.get("REDIS_STREAM", DEFAULT_STREAM),
        )
        queues = self._endpoints.queue_urls
        return lying | (sqs_messages(self.sqs, queues) if queues else {})

    def _artifacts(self) -> tuple[list[SetFact], list[str]]:
        if not self._endpoints.swift_url:
            return [], []
        return self.swift.sets(self.swift.names())


def _analysed(jobs: dict[str, JobFact]) -> list[JobFact]:
    return [
        job
        for job in jobs.values()
        if job.kind == JobKind.AUDIO_ANALYSIS and job.status == JobStatus.COMPLETED
    ]
