"""A small world in order: a few jobs brought to their ends by the code that does it for real.

On real servers, and without the services, so that one thing at a time can be broken in it.
"""

import json
import random
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import psycopg
from sqlalchemy import text

from headrace_chaos.endpoints import Endpoints
from headrace_chaos.gathering import Observer
from headrace_chaos.ledger import Entry, Ledger, Verdict
from headrace_chaos.looking_database import open_database
from headrace_chaos.looking_queues import redis_of, sqs_of
from headrace_chaos.recordings import cut, md5_of, sha256_of
from headrace_chaos.violations import Violation
from headrace_common.artifact_sets import (
    ArtifactRecord,
    CodeRecord,
    Findings,
    ModelRecord,
    ProcessMeta,
    SourceRecord,
    encode,
    read_signing_key,
    sign,
)
from headrace_common.contracts import JobKind, JobStatus, Lane
from headrace_common.contracts.cctv import ArtifactName, CctvResult, StoredArtifact, job_folder
from headrace_common.db import upgrade
from headrace_common.jobs import Change, EventPublisher, Failure, JobStore, NewJob
from headrace_common.settings import DatabaseSettings
from headrace_common.sqs import ensure_queues
from headrace_common.storage import ensure_bucket
from headrace_local.pytest_plugin import LocalServers
from headrace_results import inbox
from headrace_results.applier import ReportApplier

_SERVERS: Final = ("postgres", "valkey", "s3", "sqs", "keystone", "swift")
_HLS: Final = "http://127.0.0.1/live.m3u8"
_ATTEMPTS: Final = 5


@dataclass(frozen=True)
class Recorded:
    """A recording that was sent in.

    Attributes:
        key: in S3.
        promise: what the ledger says of it.
    """

    job_id: str
    key: str
    data: bytes
    promise: dict[str, Any]

    @property
    def seconds(self) -> float:
        """Its length."""
        return float(self.promise["seconds"])


@contextmanager
def small_world(servers: LocalServers, database_url: str, directory: Path) -> Iterator["World"]:
    """Make a world of its own on servers that others use too.

    Args:
        servers: those of the local stack.
        database_url: of a migrated database that nobody else uses.
        directory: for the ledger.
    """
    env = servers.env(*_SERVERS)
    name = uuid.uuid4().hex[:12]
    own = {
        "DATABASE_URL": database_url,
        "S3_BUCKET": f"chaos-{name}",
        "SWIFT_CONTAINER": f"chaos-{name}",
        "REDIS_STREAM": f"stream:{name}",
        "DRAMATIQ_NAMESPACE": f"chaos-{name}",
    }
    plain = _endpoints(servers, {**env, **own})
    queues = ensure_queues(sqs_of(plain), prefix=f"{name}-")
    urls = {
        "SQS_QUEUE_URL": queues.by_lane[Lane.NORMAL],
        "SQS_QUEUE_URL_HIGH": queues.by_lane[Lane.HIGH],
        "SQS_QUEUE_URL_LOW": queues.by_lane[Lane.LOW],
        "SQS_RESULT_QUEUE_URL": queues.results,
    }
    world = World(_endpoints(servers, {**env, **own, **urls}), Ledger(directory / "ledger.jsonl"))
    ensure_bucket(world.s3, world.bucket)
    world.swift.ensure_container()
    try:
        world.fill()
        yield world
    finally:
        world.close()


@contextmanager
def own_database(servers: LocalServers) -> Iterator[str]:
    """Make a migrated database that nobody else uses, and give its URL."""
    server_url = servers.database_url
    name = f"chaos_{uuid.uuid4().hex}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
        url = f"{server_url.rpartition('/')[0]}/{name}"
        upgrade(DatabaseSettings.model_validate({"database_url": url}))
        try:
            yield url
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


def _endpoints(servers: LocalServers, settings: dict[str, str]) -> Endpoints:
    return Endpoints(
        directory=servers.directory,
        api_key="",
        services={},
        settings=settings,
        swift_url=servers.process("swift").url,
        proxied={},
    )


class World:
    """What is in it, and the means to add to it."""

    def __init__(self, endpoints: Endpoints, ledger: Ledger) -> None:
        """Connect."""
        self.endpoints = endpoints
        self.ledger = ledger
        self.bucket = endpoints.settings["S3_BUCKET"]
        self.stream = endpoints.settings["REDIS_STREAM"]
        self.database = open_database(endpoints.settings)
        self.redis: Any = redis_of(endpoints)
        self.observer = Observer(endpoints)
        self.s3, self.sqs, self.swift = self.observer.s3, self.observer.sqs, self.observer.swift
        self.store = JobStore(
            self.database, EventPublisher(self.redis), retention=timedelta(days=1)
        )
        self.applier = ReportApplier(self.database, self.store, max_attempts=_ATTEMPTS)
        self.known: set[Violation] = set()
        self._items = 0
        self._chance = random.Random(1)  # noqa: S311 - which piece of which voice

    def close(self) -> None:
        """Close every connection."""
        self.observer.__exit__(None, None, None)
        self.redis.close()
        self.database.close()
        self.ledger.close()

    def fill(self) -> None:
        """Have one job of each sort come to its end."""
        self.audio()
        self.audio(ends=JobStatus.FAILED)
        self.cancelled()
        self.done_anew()
        self.later()
        self.never_accepted()
        self.camera()
        self.followed()

    def audio(self, ends: JobStatus = JobStatus.COMPLETED) -> Recorded:
        """Bring a recording through all stages to its end."""
        recorded = self.upload(ends=ends)
        self.work(recorded)
        self.answer(recorded)
        return recorded

    def cancelled(self) -> Recorded:
        """Cancel a job while it is analysed; its answer comes all the same."""
        recorded = self.upload()
        self.work(recorded)
        self.change(recorded.job_id, JobStatus.CANCELLED)
        self.note(Entry.CANCEL, recorded, verdict=Verdict.GRANTED)
        self.answer(recorded)
        return recorded

    def done_anew(self) -> Recorded:
        """Have a job done a second time."""
        recorded = self.audio()
        self.note(Entry.RETRY, recorded, verdict=Verdict.GRANTED)
        self.begin_anew(recorded)
        return recorded

    def later(self) -> Recorded:
        """Have a job begin later."""
        recorded = self.upload(scheduled=True)
        self.work(recorded)
        self.answer(recorded)
        return recorded

    def begin_anew(self, recorded: Recorded) -> None:
        """Bring a job that has ended through its next run."""
        self.change(recorded.job_id, JobStatus.QUEUED, starts_run=True)
        self.change(recorded.job_id, JobStatus.PROCESSING, takes_up=True)
        self.change(recorded.job_id, JobStatus.QUEUED_FOR_ANALYSIS, takes_up=True)
        self.answer(recorded, run=2)

    def never_accepted(self) -> str:
        """Let an upload break off."""
        recorded = self._recorded()
        self._create(recorded)
        failure = Failure("client_disconnected", "the client went away")
        self.change(recorded.job_id, JobStatus.FAILED, failure=failure)
        return recorded.job_id

    def followed(self) -> Recorded:
        """Let somebody follow a job from its beginning to its end."""
        recorded = self.audio()
        self.saw(recorded.job_id, self.timeline(recorded.job_id))
        return recorded

    def upload(
        self,
        *,
        ends: JobStatus = JobStatus.COMPLETED,
        told: bool = True,
        data: bytes | None = None,
        scheduled: bool = False,
    ) -> Recorded:
        """Take a recording in, up to its queue.

        Args:
            ends: how it has to end.
            told: whether the client was.
            data: instead of a recording of its own.
            scheduled: whether it is to begin later, which has come.
        """
        recorded = self._recorded(ends=ends, data=data)
        self.s3.put_object(Bucket=self.bucket, Key=recorded.key, Body=recorded.data)
        self._create(recorded)
        sha256 = sha256_of(recorded.data)
        known: dict[str, Any] = {"bytes": len(recorded.data), "sha256": sha256}
        self.change(recorded.job_id, JobStatus.UPLOADING, progress=30, input=known)
        if scheduled:
            self.change(recorded.job_id, JobStatus.SCHEDULED, run_at=datetime.now(UTC))
        else:
            self.change(recorded.job_id, JobStatus.QUEUING)
        if told:
            self.note(Entry.ACCEPTED, recorded, **recorded.promise)
        self.change(recorded.job_id, JobStatus.QUEUED)
        return recorded

    def work(self, recorded: Recorded) -> None:
        """Take a job up, and hand it to an analysis server that begins with it."""
        self.change(recorded.job_id, JobStatus.PROCESSING, takes_up=True)
        told: dict[str, Any] = {"sqs_message_id": str(uuid.uuid4())}
        self.change(recorded.job_id, JobStatus.QUEUED_FOR_ANALYSIS, takes_up=True, metadata=told)
        self.report(recorded.job_id, {"status": "processing", "progress": 50})

    def answer(self, recorded: Recorded, *, run: int = 1) -> None:
        """Let the analysis server end a job as it has to end."""
        if recorded.promise["natural_end"] == JobStatus.FAILED:
            error = {"code": "audio_too_short", "message": "it is too short"}
            self.report(recorded.job_id, {"status": "failed", "error": error}, run=run)
            return
        result = {"duration_seconds": round(recorded.seconds, 3)}
        folder = f"results/{recorded.job_id}"
        document = json.dumps({**result, "job_id": recorded.job_id}).encode()
        self.s3.put_object(Bucket=self.bucket, Key=f"{folder}/analysis.json", Body=document)
        self.s3.put_object(Bucket=self.bucket, Key=f"{folder}/plot.png", Body=b"a plot")
        self.report(recorded.job_id, {"status": "completed", "result": result}, run=run)

    def camera(self) -> str:
        """Bring a camera's job to its end, and return its id."""
        job_id, camera = str(uuid.uuid4()), f"cam-{self._next_item()}"
        entry_id = f"{time.time_ns() // 1_000_000}-{self._items}"
        self.store.create(
            NewJob(
                id=job_id,
                kind=JobKind.CCTV_PREPROCESS,
                lane=Lane.NORMAL,
                message="Waiting in the stream",
                input={"cctv_id": camera, "hls": _HLS, "sec": 1},
                status=JobStatus.QUEUED,
                queue_message_id=entry_id,
            )
        )
        self.ledger.note(
            Entry.ADDED,
            job_id=job_id,
            item=self._items,
            kind=JobKind.CCTV_PREPROCESS,
            natural_end=JobStatus.COMPLETED,
            camera=camera,
            entry_id=entry_id,
        )
        result = self.put_set(job_id, camera).model_dump(mode="json")
        report = {
            "job_id": job_id,
            "entry": {"cctvId": camera, "hls": _HLS, "sec": "1", "attempt": "0"},
            "entry_id": entry_id,
            "message": "",
            "consumer": "a",
            "at": datetime.now(UTC).isoformat(),
        }
        source = inbox.Source.STREAM
        self.report(job_id, {**report, "state": "processing", "stage": "reading"}, source=source)
        self.report(job_id, {**report, "state": "completed", "result": result}, source=source)
        return job_id

    def put_set(self, job_id: str, camera: str) -> CctvResult:
        """Put a whole set of artefacts into Swift."""
        now = datetime.now(UTC)
        stamp = f"{now:%Y%m%dT%H%M%S}.{uuid.uuid4().int % 1000:03d}Z"
        prefix = self.endpoints.settings["SWIFT_UPLOAD_PREFIX"]
        folder = job_folder(prefix, camera, job_id) + stamp + "/"
        files: dict[ArtifactName, bytes] = {
            name: f"{name} {uuid.uuid4()}".encode()
            for name in ArtifactName
            if name is not ArtifactName.PROCESS_META
        }
        meta = ProcessMeta(
            job_id=job_id,
            cctv_id=camera,
            folder=folder,
            timestamp=stamp,
            attempt=0,
            source=SourceRecord(url=_HLS, seconds=1),
            clip={},
            frames={},
            model=ModelRecord(name="m", sha256="0" * 64, labels=("D00",), threshold=0.3),
            code=CodeRecord(service="chaos", version="1"),
            timings_seconds={},
            findings=Findings(quality=0.9, damages=0, damaged_share=0),
            created_at=now,
            artifacts={
                name: ArtifactRecord(
                    sha256=sha256_of(data), bytes=len(data), content_type=name.content_type
                )
                for name, data in files.items()
            },
        )
        key = read_signing_key(self.endpoints.settings["META_SIGNING_KEY"])
        files[ArtifactName.PROCESS_META] = encode(sign(meta, key))
        for name, data in files.items():
            self.swift.put(folder + name, data)
        return CctvResult(
            storage_url=f"{self.endpoints.swift_url}/v1/AUTH_chaos",
            container=self.endpoints.settings["SWIFT_CONTAINER"],
            folder=folder,
            artifacts={
                name: StoredArtifact(
                    object=folder + name,
                    sha256=sha256_of(data),
                    bytes=len(data),
                    content_type=name.content_type,
                )
                for name, data in files.items()
            },
            quality=0.9,
            damages=0,
            damaged_share=0,
        )

    def change(self, job_id: str, to: JobStatus, **more: Any) -> None:
        """Change a job by the store."""
        self.store.apply([Change(job_id=job_id, to=to, message=f"now {to}", **more)])

    def report(
        self,
        job_id: str,
        payload: dict[str, Any],
        *,
        source: inbox.Source = inbox.Source.WEBHOOK,
        run: int = 1,
    ) -> int:
        """Take a report in, apply it, and return its number."""
        inbox_id = self.keep(job_id, payload, source=source, run=run)
        self.applier.apply(inbox_id)
        return inbox_id

    def keep(
        self,
        job_id: str,
        payload: dict[str, Any],
        *,
        source: inbox.Source = inbox.Source.WEBHOOK,
        run: int = 1,
    ) -> int:
        """Take a report in, and return its number."""
        with self.database.begin() as session:
            new = inbox.NewReport(
                job_id=job_id,
                dedup_key=inbox.signed_key(str(uuid.uuid4())),
                source=source,
                payload=payload,
                run=run,
            )
            return inbox.keep(session, new).inbox_id

    def timeline(self, job_id: str) -> list[tuple[int, str, str]]:
        """Return what somebody who follows a job sees."""
        rows = self.sql(
            "SELECT sequence, type, status FROM job_events WHERE job_id = :job ORDER BY sequence",
            job=job_id,
        )
        return [(int(row[0]), str(row[1]), str(row[2])) for row in rows]

    def saw(self, job_id: str, events: list[tuple[int, str, str]], *, ended: bool = True) -> None:
        """Note what somebody saw who followed a job."""
        self.ledger.note(Entry.FOLLOWED, job_id=job_id, events=events, ended=ended)

    def sql(self, query: str, **values: Any) -> list[Any]:
        """Do something in the database that no code of ours does."""
        with self.database.begin() as session:
            answer = session.execute(text(query), values)
            return list(answer.all()) if answer.returns_rows else []  # type: ignore[attr-defined]

    def note(self, what: Entry, recorded: Recorded, **facts: Any) -> None:
        """Note something of a recording's job in the ledger."""
        self.ledger.note(what, job_id=recorded.job_id, **facts)

    def _next_item(self) -> int:
        self._items += 1
        return self._items

    def _recorded(
        self, *, ends: JobStatus = JobStatus.COMPLETED, data: bytes | None = None
    ) -> Recorded:
        piece = cut(self._chance)
        data = data or piece.wav()
        job_id, item = str(uuid.uuid4()), self._next_item()
        promise = {
            "item": item,
            "kind": JobKind.AUDIO_ANALYSIS,
            "natural_end": ends,
            "key": f"key-{item}",
            "lane": Lane.NORMAL,
            "sha256": sha256_of(data),
            "md5": md5_of(data),
            "seconds": piece.seconds,
        }
        return Recorded(job_id, f"audio/2026/11/25/{job_id}.wav", data, promise)

    def _create(self, recorded: Recorded) -> None:
        self.store.create(
            NewJob(
                id=recorded.job_id,
                kind=JobKind.AUDIO_ANALYSIS,
                lane=Lane.NORMAL,
                message="Receiving the recording",
                input={"s3_audio_url": f"s3://{self.bucket}/{recorded.key}"},
            )
        )
