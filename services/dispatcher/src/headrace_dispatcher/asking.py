"""Asking analysis servers once more, without ever waiting long for them."""

from collections.abc import Sequence
from concurrent.futures import Future, wait
from datetime import timedelta
from typing import Final

import structlog
from opentelemetry.trace import SpanKind
from sqlalchemy import func, update
from sqlalchemy.exc import SQLAlchemyError

from headrace_common.contracts.jobs import JobStatus
from headrace_common.db import Database, Job
from headrace_common.jobs import Change, Failure, JobStore
from headrace_common.telemetry import continue_trace
from headrace_common.telemetry.trace import inside_trace
from headrace_dispatcher.dispatch import Dispatching
from headrace_dispatcher.transports import Receipt, TransportError

log = structlog.get_logger()

#: Jobs on their way at once. While SQS is away the rest waits for a later round.
MAX_UNDER_WAY: Final = 100
#: Longest that a round waits for answers: whoever sweeps holds others up, and a stop.
_WAIT_SECONDS: Final = 5.0
#: Who asks for a job has it to itself for so long; one that was not taken is left alone as long.
CLAIM: Final = timedelta(seconds=60)


class AskingAgain:
    """Sends jobs again whose analysis server fell silent. Used by one thread.

    Any number of processes may do so at once: each job is claimed first, by the `retry_at` of
    its row, which a job that was sent has no other use for.
    """

    def __init__(self, dispatching: Dispatching, store: JobStore, database: Database) -> None:
        """Send with `dispatching`."""
        self._dispatching = dispatching
        self._store = store
        self._database = database
        self._under_way: dict[str, tuple[Job, Future[Receipt]]] = {}

    def ask(self, jobs: Sequence[Job]) -> set[str]:
        """Send as many of `jobs` as may be on their way, and wait some seconds for the answers.

        A job that was not taken is found again by a later round, until its time is over.

        Returns:
            The ids of those that were taken.
        """
        self._settle()
        for job in jobs:
            if len(self._under_way) >= MAX_UNDER_WAY:
                break
            if job.id not in self._under_way:
                self._send(job)
        wait([future for _, future in self._under_way.values()], timeout=_WAIT_SECONDS)
        return self._settle()

    def _send(self, job: Job) -> None:
        with continue_trace(job.trace, "ask again", kind=SpanKind.INTERNAL, job_id=job.id):
            try:
                future = self._dispatching.send_again(job, claim=lambda: self._claim(job))
            except TransportError as error:
                if not error.systemic:
                    self._refused(job, error)
            except SQLAlchemyError:
                raise  # the others would fare no better
            except Exception:
                # One job at fault must not keep those behind it waiting for ever.
                log.exception("dispatcher.not_asked_again")
            else:
                if future is not None:
                    self._under_way[job.id] = job, future

    def _claim(self, job: Job) -> bool:
        """Take a job for ourselves, as it was read; not if anything happened to it since."""
        claimed = (
            update(Job)
            .where(
                Job.id == job.id,
                Job.status == JobStatus.QUEUED_FOR_ANALYSIS,
                Job.event_sequence == job.event_sequence,
                Job.retry_at.is_(None) | (Job.retry_at < func.now()),
            )
            .values(retry_at=func.now() + CLAIM)
            .returning(Job.id)
        )
        with self._database.begin() as session:
            return session.scalar(claimed) is not None

    def _settle(self) -> set[str]:
        """Look at the answers that came, and return the ids of the jobs that were taken."""
        done = [pair for pair in self._under_way.values() if pair[1].done()]
        taken = set()
        for job, future in done:
            del self._under_way[job.id]
            error = future.exception()
            with inside_trace(job.trace):
                if error is None:
                    taken.add(job.id)
                    log.warning("dispatcher.asked_again", job_id=job.id)
                elif isinstance(error, TransportError):
                    self._refused(job, error)
                else:
                    log.warning("dispatcher.not_asked_again", job_id=job.id, exc_info=error)
        return taken

    def _refused(self, job: Job, error: TransportError) -> None:
        log.warning("dispatcher.not_asked_again", job_id=job.id, reason=error.reason)
        if error.retryable:
            return
        message = f"Could not be handed to an analysis server: {error.reason}"
        change = Change(
            job_id=job.id,
            to=JobStatus.FAILED,
            message=message,
            only_run=job.run,
            failure=Failure("dispatch_failed", message),
        )
        self._store.apply([change])
