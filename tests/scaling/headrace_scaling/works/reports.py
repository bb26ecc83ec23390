"""Results: the answers of analysis servers in, and applied to their jobs."""

import json
from collections.abc import Sequence
from typing import Any, ClassVar, Final

from sqlalchemy import func, select

from headrace_common import webhooks
from headrace_common.contracts.jobs import JobStatus
from headrace_common.db import InboxReport, Job, JobEventRow
from headrace_local.services import RESULTS
from headrace_scaling.clients import Answer, Request, post_all
from headrace_scaling.doings import Doing
from headrace_scaling.scene import Scene
from headrace_scaling.work import Work

_CLIENTS_EACH: Final = 6


class Reports(Work):
    """Signed webhooks that say that a job is completed; a piece is a job."""

    deployment: ClassVar[str] = "results"
    service: ClassVar[str] = RESULTS
    what: ClassVar[str] = "webhooks taken in and applied"
    each: ClassVar[int] = 45
    settled_by: ClassVar[str] = "INBOX_RETRY_SECONDS"

    def __init__(self, scene: Scene) -> None:
        """Make it for a scene."""
        super().__init__(scene)
        self._answers: dict[str, Answer] = {}

    def feed(self, count: int) -> Sequence[str]:
        """Make so many jobs that were sent to an analysis server, and report on them."""
        items = self.scene.make_jobs(count, to=JobStatus.QUEUED_FOR_ANALYSIS)
        url = f"{self.scene.fleet.service(RESULTS)}/webhooks/analysis"
        self._answers = post_all(
            [self._report(url, item) for item in items],
            at_once=_CLIENTS_EACH * max(1, len(self.scene.fleet.running(RESULTS))),
            headers={"content-type": "application/json"},
        )
        return items

    def unfinished(self, items: Sequence[str]) -> int:
        """Count the jobs that are not completed."""
        query = select(func.count()).where(Job.id.in_(items), Job.status == JobStatus.COMPLETED)
        with self.scene.database.begin() as session:
            return len(items) - (session.scalar(query) or 0)

    def doings(self) -> Sequence[Doing]:
        """Return who applied which report."""

        def item(fields: Any) -> str | None:
            return str(fields["job_id"]) if fields["outcome"] == "applied" else None

        return self.logbook.doings(self.replicas, "report.applied", item)

    def effects(self, items: Sequence[str]) -> int:
        """Count how often a job came to be completed."""
        query = select(func.count()).where(
            JobEventRow.job_id.in_(items), JobEventRow.status == JobStatus.COMPLETED
        )
        with self.scene.database.begin() as session:
            return session.scalar(query) or 0

    def handed_over(self, items: Sequence[str], victim: str) -> Sequence[str]:
        """Return those that were sent again, or begun to be applied again."""
        query = select(InboxReport.job_id).where(
            InboxReport.job_id.in_(items), InboxReport.attempts > 1
        )
        with self.scene.database.begin() as session:
            begun_again = set(session.scalars(query))
        return [item for item in items if item in begun_again or self._answers[item].tries > 1]

    def _report(self, url: str, job_id: str) -> Request:
        body = json.dumps({"status": "completed", "result": {"duration_seconds": 0.3}}).encode()
        signature = webhooks.sign(
            body, secrets=[self.scene.settings["WEBHOOK_SECRETS"]], message_id=job_id
        )
        return Request(
            job_id, url, {"params": {"job_id": job_id}, "content": body, "headers": signature}
        )
