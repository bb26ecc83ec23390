"""Asking analysis servers once more, without ever waiting long for them."""

from collections.abc import Sequence
from concurrent.futures import Future, wait
from typing import Final

import structlog

from headrace_common.contracts.jobs import JobStatus
from headrace_common.db import Job
from headrace_common.jobs import Change, Failure, JobStore
from headrace_common.telemetry import continue_trace
from headrace_dispatcher.dispatch import Dispatching
from headrace_dispatcher.transports import Receipt, TransportError

log = structlog.get_logger()

#: Jobs on their way at once. While SQS is away the rest waits for a later round.
MAX_UNDER_WAY: Final = 100
#: Longest that a round waits for answers: whoever sweeps holds others up, and a stop.
_WAIT_SECONDS: Final = 5.0


class AskingAgain:
    """Sends jobs again whose analysis server fell silent. Used by one thread."""

    def __init__(self, dispatching: Dispatching, store: JobStore) -> None:
        """Send with `dispatching`."""
        self._dispatching = dispatching
        self._store = store
        self._under_way: dict[str, Future[Receipt]] = {}

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
        wait(self._under_way.values(), timeout=_WAIT_SECONDS)
        return self._settle()

    def _send(self, job: Job) -> None:
        with continue_trace(job.trace, "ask again", job_id=job.id):
            try:
                self._under_way[job.id] = self._dispatching.send(job)
            except TransportError as error:
                self._refused(job.id, error)
            except Exception:
                # One job at fault must not keep those behind it waiting for ever.
                log.exception("dispatcher.not_asked_again")

    def _settle(self) -> set[str]:
        """Look at the answers that came, and return the ids of the jobs that were taken."""
        done = {job_id: future for job_id, future in self._under_way.items() if future.done()}
        taken = set()
        for job_id, future in done.items():
            del self._under_way[job_id]
            error = future.exception()
            if error is None:
                taken.add(job_id)
                log.warning("dispatcher.asked_again", job_id=job_id)
            elif isinstance(error, TransportError):
                self._refused(job_id, error)
            else:
                log.warning("dispatcher.not_asked_again", job_id=job_id, exc_info=error)
        return taken

    def _refused(self, job_id: str, error: TransportError) -> None:
        log.warning("dispatcher.not_asked_again", job_id=job_id, reason=error.reason)
        if error.retryable:
            return
        message = f"Could not be handed to an analysis server: {error.reason}"
        change = Change(
            job_id=job_id,
            to=JobStatus.FAILED,
            message=message,
            failure=Failure("dispatch_failed", message),
        )
        self._store.apply([change])
