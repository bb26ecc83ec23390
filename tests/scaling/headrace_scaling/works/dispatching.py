"""Dispatchers: from the lanes to the analysis servers, over SQS or over HTTP."""

import json
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Final

import httpx
from sqlalchemy import func, select

from headrace_common.contracts.jobs import JobStatus
from headrace_common.db import Job, JobEventRow
from headrace_local.services import DISPATCHER
from headrace_local.waiting import wait_until
from headrace_scaling.doings import Doing
from headrace_scaling.fleet import SCHEDULER
from headrace_scaling.scene import Scene
from headrace_scaling.sink import Sink
from headrace_scaling.work import Work

_BATCH: Final = 10
#: How the timeline tells that a dispatcher has taken a job up.
_TAKEN_UP: Final = (JobStatus.PROCESSING, "Picked up by a dispatcher")


class _Dispatching(Work):
    deployment: ClassVar[str] = "dispatcher"
    service: ClassVar[str] = DISPATCHER
    # Whose built-in schedules look for lost messages.
    needs: ClassVar[Sequence[str]] = (SCHEDULER,)
    settled_by: ClassVar[str] = "DRAMATIQ_HEARTBEAT_TIMEOUT_SECONDS"
    may_be_together: ClassVar[bool] = False
    is_once: ClassVar[bool] = False
    sqs_percent: ClassVar[int]

    def prepare(self) -> None:
        """Send all jobs over one transport."""
        url = self.scene.fleet.service(SCHEDULER)
        answer = httpx.put(
            f"{url}/rollout",
            json={"sqs_percent": self.sqs_percent, "reason": "scaling"},
            headers=self.scene.headers,
            timeout=30,
        )
        answer.raise_for_status()
        for name in self.scene.fleet.running(self.service):
            wait_until(partial(self._knows, name), seconds=60)

    def _knows(self, name: str) -> bool:
        """Whether a replica knows by now which transport to take."""
        metrics = httpx.get(f"{self.scene.fleet.url(name)}/metrics", timeout=30).text
        return f"headrace_rollout_sqs_ratio {self.sqs_percent / 100:.1f}\n" in metrics

    def feed(self, count: int) -> Sequence[str]:
        """Queue so many jobs."""
        items = self.scene.make_jobs(count)
        self.scene.queue_jobs(items)
        return items

    def unfinished(self, items: Sequence[str]) -> int:
        """Count the jobs that were not sent."""
        query = select(func.count()).where(
            Job.id.in_(items), Job.status != JobStatus.QUEUED_FOR_ANALYSIS
        )
        with self.scene.database.begin() as session:
            return session.scalar(query) or 0

    def doings(self) -> Sequence[Doing]:
        """Return who sent which job."""

        def item(fields: Any) -> str | None:
            return str(fields["job_id"])

        return self.logbook.doings(self.replicas, "dispatcher.job_sent", item)

    def handed_over(self, items: Sequence[str], victim: str) -> Sequence[str]:
        """Return the jobs that were taken up more than once."""
        status, message = _TAKEN_UP
        query = (
            select(JobEventRow.job_id)
            .where(
                JobEventRow.job_id.in_(items),
                JobEventRow.status == status,
                JobEventRow.message == message,
            )
            .group_by(JobEventRow.job_id)
            .having(func.count() > 1)
        )
        with self.scene.database.begin() as session:
            return list(session.scalars(query))


class DispatchOverSqs(_Dispatching):
    """Jobs from a lane to SQS."""

    what: ClassVar[str] = "jobs to SQS"
    each: ClassVar[int] = 80
    sqs_percent: ClassVar[int] = 100

    def effects(self, items: Sequence[str]) -> int:
        """Count their messages in SQS, which are taken off it."""
        wanted, found = set(items), 0
        url = self.scene.settings["SQS_QUEUE_URL"]
        while messages := self.scene.sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=_BATCH, WaitTimeSeconds=0
        ).get("Messages", []):
            found += sum(json.loads(each["Body"])["job_id"] in wanted for each in messages)
            self.scene.sqs.delete_message_batch(
                QueueUrl=url,
                Entries=[
                    {"Id": str(number), "ReceiptHandle": each["ReceiptHandle"]}
                    for number, each in enumerate(messages)
                ],
            )
        return found


class DispatchOverHttp(_Dispatching):
    """Jobs from a lane to an analysis server that takes its time to answer."""

    what: ClassVar[str] = "jobs to a slow analysis server over HTTP"
    # More than a replica has in hand (DISPATCHER_THREADS), or three would take all from a fourth.
    each: ClassVar[int] = 40
    cores: ClassVar[float | None] = None
    sqs_percent: ClassVar[int] = 0

    def __init__(self, scene: Scene, sink: Sink) -> None:
        """Make it; `sink` is what ANALYSIS_SERVER_URL leads to."""
        super().__init__(scene)
        self._sink = sink

    def effects(self, items: Sequence[str]) -> int:
        """Count the requests that came for them."""
        asked: Counter[str] = self._sink.asked
        return sum(asked[item] for item in items)
