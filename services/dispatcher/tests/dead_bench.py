"""A dispatcher whose letters a test brings in, looks at over HTTP, and decides about."""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from dispatcher_scene import Queues, Scene
from dramatiq import Message, Worker, actor
from fastapi import FastAPI
from pydantic import JsonValue

from headrace_common import keys
from headrace_common.broker import make_broker, new_message, send
from headrace_common.contracts.jobs import JobKind, JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_common.contracts.messages import DispatchJob, dispatch_actor
from headrace_common.db import InboxReport
from headrace_common.jobs import Change, NewJob
from headrace_common.keys import Scope
from headrace_common.sqs import MAX_RECEIVES
from headrace_common.web import Authenticator, create_app
from headrace_dispatcher.audit_trail import audit_router
from headrace_dispatcher.dead.routes import dead_letters_router
from headrace_local.waiting import wait_until


class Api:
    """The routes, asked without a server."""

    def __init__(self, app: FastAPI, key: str) -> None:
        self._app = app
        self._headers = {"authorization": f"Bearer {key}"}

    def get(self, path: str, **arguments: Any) -> httpx.Response:
        return self._ask("GET", path, **arguments)

    def post(self, path: str, **arguments: Any) -> httpx.Response:
        return self._ask("POST", path, **arguments)

    def _ask(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self._app)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://dispatcher", headers=self._headers
            ) as client:
                return await client.request(method, path, **arguments)

        return asyncio.run(ask())


class Bench:
    """Lets letters die, and asks the API about them."""

    def __init__(self, scene: Scene, queues: Queues, api: Api) -> None:
        self.scene = scene
        self.queues = queues
        self.api = api
        self.redis: Any = scene.broker.client
        self.stream = scene.settings.redis_stream
        self.dead_stream = scene.settings.redis_dlq_stream
        self.letters = scene.dispatcher.dead_letters

    def collect(self) -> None:
        self.letters.collector.step()

    def replay_due(self) -> None:
        """Replay all that is due now."""
        while self.letters.replayer.step() == 0:
            pass

    def get(self, path: str, **params: Any) -> Any:
        answer = self.api.get(path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, **body: Any) -> Any:
        answer = self.api.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def found(self, **params: Any) -> list[dict[str, Any]]:
        letters: list[dict[str, Any]] = self.get("/dead-letters", **params)["letters"]
        return letters

    def only(self, **params: Any) -> dict[str, Any]:
        """Bring letters in and return the one that there is, with all that is known of it.

        A dispatcher that runs may be bringing it in at the same time.
        """

        def look() -> list[dict[str, Any]]:
            self.collect()
            return self.found(**params)

        (letter,) = wait_until(look)
        shown: dict[str, Any] = self.get(f"/dead-letters/{letter['id']}")
        return shown

    def replay(self, letter: dict[str, Any]) -> str:
        """Replay one letter and return what that came to."""
        assert self.post("/dead-letters/replay", ids=[letter["id"]])["letters"] == 1
        self.replay_due()
        outcome: str = self.get(f"/dead-letters/{letter['id']}")["outcome"]
        return outcome

    def status(self, job_id: str) -> str:
        return self.scene.load(job_id).status

    def kill_message(self, message: "Message[Any]") -> None:
        """Let a message die of an actor that always fails, in a worker of its own."""
        broker = make_broker(self.scene.settings, max_retries=0)

        def fail(**_payload: Any) -> None:
            raise LookupError(f"no such thing as {uuid4()}, for user:secret@host")

        declare = actor(broker=broker, actor_name=message.actor_name, queue_name=message.queue_name)
        declare(fail)
        send(broker, message)
        worker = Worker(broker, worker_timeout=10, worker_threads=1)
        worker.start()
        dead = f"{broker.namespace}:{message.queue_name}.XQ"
        wait_until(lambda: self.redis.zcard(dead))
        worker.stop()
        broker.close()

    def kill_sqs(self, url: str, body: str) -> None:
        """Let a message die of being received too often."""
        client = self.queues.client
        client.send_message(QueueUrl=url, MessageBody=body)
        self.receive_to_death(url)

    def receive_to_death(self, url: str) -> None:
        """Receive the one message of a queue until SQS moves it."""

        def receive() -> bool:
            answer = self.queues.client.receive_message(
                QueueUrl=url, VisibilityTimeout=0, WaitTimeSeconds=0
            )
            return bool(answer.get("Messages"))

        for _ in range(MAX_RECEIVES):
            wait_until(receive)
        wait_until(lambda: not receive())

    def kill_entry(self, fields: dict[str, str], *, dead_stream: str | None = None) -> str:
        """Put an entry where the preprocessor puts what it gives up."""
        letter: dict[Any, Any] = {
            **fields,
            "reason": "sec: Input should be a valid number",
            "code": "malformed_entry",
            "failedAt": "2026-01-02T03:04:05.678+00:00",
            "sourceId": "1-0",
            "deliveries": "1",
            "consumer": "gpu-1",
        }
        added: Any = self.redis.xadd(dead_stream or self.dead_stream, letter)
        return str(added.decode())

    def camera_job(self, *steps: JobStatus) -> str:
        job_id = f"job-{uuid4()}"
        kept: dict[str, JsonValue] = {
            "cctv_id": "cam-1",
            "hls": "http://h/a.m3u8",
            "sec": 2,
            "enqueued_at": 1,
        }
        self.scene.store.create(
            NewJob(
                id=job_id,
                kind=JobKind.CCTV_PREPROCESS,
                lane=Lane.NORMAL,
                message="",
                input={**kept},
            )
        )
        self.end(job_id, JobStatus.QUEUING, *steps)
        return job_id

    def end(self, job_id: str, *steps: JobStatus) -> None:
        self.scene.store.apply([Change(job_id=job_id, to=step, message="") for step in steps])

    def poison(self, job_id: str) -> int:
        """Leave a report in the inbox as the results service leaves what it has given up."""
        with self.scene.database.begin() as session:
            row = InboxReport(
                dedup_key=str(uuid4()),
                job_id=job_id,
                source="webhook",
                payload={"status": "completed", "note": "https://cam/a.m3u8?key=hush"},
                attempts=5,
                outcome="poisoned: gave up after 5 attempts: KeyError",
            )
            session.add(row)
            session.flush()
            return row.id

    def report(self, inbox_id: int) -> InboxReport:
        with self.scene.database.begin() as session:
            row = session.get(InboxReport, inbox_id)
            assert row is not None
            return row

    def received(self, url: str) -> list[dict[str, Any]]:
        answer = self.queues.client.receive_message(
            QueueUrl=url, WaitTimeSeconds=20, MaxNumberOfMessages=10
        )
        return [json.loads(message["Body"]) for message in answer.get("Messages", [])]


@pytest.fixture
def bench(scene_with: Callable[..., Scene], queues: Queues) -> Iterator[Bench]:
    scene = scene_with(
        redis_stream=f"stream:{uuid4()}",
        sqs_result_queue_url=queues.urls.results,
        dead_letter_interval_seconds=0.5,
    )
    with scene.database.begin() as session:
        key = keys.create(session, name="operator", scopes=[Scope.ADMIN]).secret_text
    app = create_app(scene.settings, service="dispatcher", description="")
    app.state.authenticator = Authenticator(scene.database, legacy_open=False)
    app.include_router(dead_letters_router(scene.database))
    app.include_router(audit_router(scene.database))
    yield Bench(scene, queues, Api(app, key))
    scene.dispatcher.dead_letters.close()
    stream = scene.settings.redis_stream
    scene.broker.client.delete(
        stream, f"{stream}:dlq", f"{stream}:reports", f"{stream}:reports:dlq"
    )


def dispatch_message(job_id: str, lane: Lane = Lane.NORMAL) -> "Message[Any]":
    return new_message(dispatch_actor(lane), lane.queue_name, DispatchJob(job_id=job_id))
