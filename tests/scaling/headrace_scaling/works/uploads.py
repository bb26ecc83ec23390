"""The ingest API: recordings from clients into S3, the database and a lane."""

from collections.abc import Sequence
from typing import Any, ClassVar, Final
from uuid import uuid4

import httpx
from sqlalchemy import func, select

from headrace_common.contracts.jobs import JobStatus
from headrace_common.db import Job
from headrace_local.services import INGEST
from headrace_scaling.clients import Answer, Request, post_all
from headrace_scaling.doings import Doing
from headrace_scaling.recording import short_recording
from headrace_scaling.scene import Scene
from headrace_scaling.work import Work

_CLIENTS_EACH: Final = 6
#: What an upload that was cut off, and is sent again, leaves.
_NOT_ACCEPTED: Final = (JobStatus.UPLOADING, JobStatus.FAILED)


class Uploads(Work):
    """Short recordings; a piece is the trace id that its request carries."""

    deployment: ClassVar[str] = "ingest-api"
    service: ClassVar[str] = INGEST
    what: ClassVar[str] = "uploads of short recordings"
    each: ClassVar[int] = 40
    settled_by: ClassVar[str] = ""

    def __init__(self, scene: Scene) -> None:
        """Make it for a scene."""
        super().__init__(scene)
        self._answers: dict[str, Answer] = {}
        self._token = ""

    def feed(self, count: int) -> Sequence[str]:
        """Upload so many, for a token of the batch's own, and wait for the answers."""
        url = self.scene.fleet.service(INGEST)
        self._token = f"scaling-{uuid4().hex[:8]}"
        httpx.post(
            f"{url}/tokens", json={"id": self._token}, headers=self.scene.headers, timeout=60
        ).raise_for_status()
        requests = [
            Request(
                item,
                f"{url}/tokens/{self._token}/upload-audio",
                {
                    "files": {"file": ("speech.wav", short_recording())},
                    "headers": {
                        "idempotency-key": item,
                        "traceparent": f"00-{item}-{uuid4().hex[:16]}-01",
                    },
                },
            )
            for item in (uuid4().hex for _ in range(count))
        ]
        self._answers = post_all(
            requests,
            at_once=_CLIENTS_EACH * max(1, len(self.scene.fleet.running(INGEST))),
            headers=self.scene.headers,
        )
        return [request.item for request in requests]

    def unfinished(self, items: Sequence[str]) -> int:
        """Count those that no job was made of."""
        ids = {self._answers[item].body["job_id"] for item in items if item in self._answers}
        query = select(func.count()).where(Job.id.in_(ids), Job.status.not_in(_NOT_ACCEPTED))
        with self.scene.database.begin() as session:
            return len(items) - (session.scalar(query) or 0)

    def doings(self) -> Sequence[Doing]:
        """Return who accepted which."""

        def item(fields: Any) -> str | None:
            return str(fields["trace_id"]) if fields["outcome"] == "accepted" else None

        return self.logbook.doings(self.replicas, "upload.ended", item)

    def effects(self, items: Sequence[str]) -> int:
        """Count the jobs of the batch's token."""
        query = select(func.count()).where(
            Job.token_id == self._token, Job.status.not_in(_NOT_ACCEPTED)
        )
        with self.scene.database.begin() as session:
            return session.scalar(query) or 0

    def handed_over(self, items: Sequence[str], victim: str) -> Sequence[str]:
        """Return those that were sent again."""
        return [item for item in items if self._answers[item].tries > 1]
