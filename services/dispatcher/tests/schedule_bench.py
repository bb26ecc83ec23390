"""The API of schedules in a database of the test's own, asked without a server."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import func, select, update

from headrace_common import keys
from headrace_common.contracts.jobs import JobKind, JobStatus
from headrace_common.db import AuditEntry, Camera, Database, Firing, Job, Schedule
from headrace_common.keys import Scope
from headrace_common.settings import ProcessSettings
from headrace_common.web import Authenticator, create_app
from headrace_dispatcher.scheduling.routes import scheduling_routers


class Bench:
    """Asks the routes with a key for jobs, unless another is told."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.app = create_app(ProcessSettings(), service="test", description="")
        self.app.state.authenticator = Authenticator(database, legacy_open=False)
        for router in scheduling_routers(database):
            self.app.include_router(router)
        self.writer = self.key(Scope.JOBS_READ, Scope.JOBS_WRITE)
        self.admin = self.key(Scope.ADMIN)

    def key(self, *scopes: Scope) -> str:
        with self.database.begin() as session:
            return keys.create(session, name="test", scopes=scopes).secret_text

    def ask(self, method: str, path: str, *, key: str | None = None, **more: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {key or self.writer}", **more.pop("headers", {})}

        async def answer() -> httpx.Response:
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(self.app), base_url="http://test", headers=headers
            ) as client:
                return await client.request(method, path, **more)

        return asyncio.run(answer())

    def get(self, path: str, **params: Any) -> Any:
        return self._good(self.ask("GET", path, params=params))

    def post(self, path: str, **body: Any) -> Any:
        return self._good(self.ask("POST", path, json=body))

    def put(self, path: str, **body: Any) -> Any:
        return self._good(self.ask("PUT", path, json=body))

    def patch(self, path: str, **body: Any) -> Any:
        return self._good(self.ask("PATCH", path, json=body))

    def _good(self, answer: httpx.Response) -> Any:
        assert answer.is_success, answer.text
        return answer.json()

    def faults(self, method: str, path: str, **body: Any) -> dict[str, str]:
        """Return what is said against a request, by field."""
        answer = self.ask(method, path, json=body, key=self.admin)
        assert answer.status_code == 422, answer.text
        assert answer.json()["code"] == "invalid_request"
        return {fault["field"]: fault["message"] for fault in answer.json()["errors"]}

    def create(self, name: str, **body: Any) -> Any:
        """Make a schedule: every ten minutes, of a camera that there is."""
        return self.post("/schedules", **self.wish(name, **body))

    def wish(self, name: str, **body: Any) -> dict[str, Any]:
        self.camera("gate")
        return {
            "name": name,
            "trigger": {"type": "interval", "seconds": 600},
            "target": "camera.preprocess",
            "params": {"camera": "gate"},
        } | body

    def camera(self, name: str) -> None:
        with self.database.begin() as session:
            session.merge(Camera(name=name, hls="https://cameras.test/a.m3u8", seconds=20))

    def job(self, kind: JobKind = JobKind.AUDIO_ANALYSIS) -> str:
        job_id = str(uuid4())
        with self.database.begin() as session:
            session.add(
                Job(
                    id=job_id,
                    kind=kind,
                    status=JobStatus.COMPLETED,
                    progress=100,
                    message="",
                    lane="normal",
                )
            )
        return job_id

    def row(self, name: str) -> Schedule:
        with self.database.begin() as session:
            return session.scalars(select(Schedule).where(Schedule.name == name)).one()

    def firings(self, name: str) -> list[Firing]:
        """Return what a schedule fired, oldest first."""
        with self.database.begin() as session:
            query = select(Firing).where(Firing.schedule_id == self.row(name).id)
            return list(session.scalars(query.order_by(Firing.fire_at)))

    def age(self, name: str, seconds: float) -> None:
        """Have a schedule look as if all had been so much earlier and nobody had fired it since."""
        past = timedelta(seconds=seconds)
        with self.database.begin() as session:
            session.execute(
                update(Schedule)
                .where(Schedule.name == name)
                .values(
                    created_at=Schedule.created_at - past,
                    next_fire_at=Schedule.next_fire_at - past,
                    next_due_at=Schedule.next_due_at - past,
                )
            )

    def write(self, name: str, **columns: Any) -> None:
        with self.database.begin() as session:
            session.execute(update(Schedule).where(Schedule.name == name).values(**columns))

    def finish(self, firing_id: int) -> None:
        with self.database.begin() as session:
            session.execute(
                update(Firing)
                .where(Firing.id == firing_id)
                .values(state="succeeded", finished_at=func.now())
            )

    def deeds(self, target: str) -> list[str]:
        with self.database.begin() as session:
            query = select(AuditEntry.action).where(AuditEntry.target == target)
            return list(session.scalars(query.order_by(AuditEntry.id)))


@pytest.fixture
def bench(database: Database) -> Bench:
    return Bench(database)
