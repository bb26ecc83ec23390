"""What a dispatch actor does with one job, and what it does when that fails."""

import random
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

import structlog

from headrace_common import webhooks
from headrace_common.contracts.analysis import ANALYSIS_PROGRESS, AnalysisRequest
from headrace_common.contracts.jobs import JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_common.db import Database, Job
from headrace_common.jobs import Change, Failure, JobStore, Outcome
from headrace_common.telemetry import current_trace
from headrace_dispatcher.bridge import Bridge
from headrace_dispatcher.routing import Routing
from headrace_dispatcher.settings import DispatcherSettings
from headrace_dispatcher.transports import Dispatch, Receipt, TransportError

log = structlog.get_logger()

#: Each further delay is so many times the one before.
_BACKOFF_FACTOR: Final = 4
#: Longest delay: longer ones belong to the scheduler, a worker holds these in memory.
_MAX_DELAY_SECONDS: Final = 300.0
#: A message may be in hand in these statuses; later ones have been sent already.
_DISPATCHABLE: Final = frozenset({JobStatus.QUEUING, JobStatus.QUEUED, JobStatus.PROCESSING})


class RetryLaterError(Exception):
    """The job is to be tried again after `delay_seconds`."""

    def __init__(self, reason: str, *, delay_seconds: float) -> None:
        """Ask for another try."""
        super().__init__(f"{reason}; trying again in {delay_seconds:.1f} s")
        self.delay_seconds = delay_seconds


@dataclass(frozen=True)
class RetryPlan:
    """What to do with a job that was not taken."""

    action: Literal["retry", "give_up"]
    delay_seconds: float = 0.0


def plan_retry(
    error: TransportError, *, deliveries: int, max_retries: int, base_seconds: float, jitter: float
) -> RetryPlan:
    """Decide whether to try again, and after how long.

    Exponential back-off with jitter: base, 4 x base, 16 x base ..., each between half and
    all of it, and never below what the other side asked for.

    Args:
        error: why it was not taken.
        deliveries: times that a worker took the job up, this one included; a worker that was
            killed counts too.
        max_retries: tries after the first.
        base_seconds: first delay.
        jitter: from 0 to 1.
    """
    if not error.retryable or deliveries > max_retries:
        return RetryPlan("give_up")
    delay = min(base_seconds * _BACKOFF_FACTOR ** (deliveries - 1), _MAX_DELAY_SECONDS)
    return RetryPlan("retry", max(delay * (0.5 + jitter / 2), error.retry_after or 0.0))


class Dispatching:
    """Takes a job to the analysis servers, at least once and with a final word on failure."""

    def __init__(
        self,
        database: Database,
        store: JobStore,
        bridge: Bridge,
        routing: Routing,
        settings: DispatcherSettings,
    ) -> None:
        """Work with these."""
        self._routing = routing
        self._database = database
        self._store = store
        self._bridge = bridge
        self._settings = settings

    def run(self, job_id: str) -> None:
        """Dispatch a job whose message came; a message that came twice does nothing.

        Raises:
            RetryLaterError: it was not taken, and is to be tried again.
        """
        taken = self._take_up(job_id)
        if taken is None:
            return
        job, outcome = taken
        if outcome.deliveries > self._settings.job_max_retries + 1:
            # A refusal ends the job within its budget, so that every one of these ended in a
            # worker's death or in an error of ours.
            reason = f"taken up {outcome.deliveries - 1} times without an end"
            self._fail(job_id, "poison_message", reason)
            return
        try:
            self.send(job).result()
        except TransportError as error:
            self._settle(job_id, error, deliveries=outcome.deliveries)
        else:
            log.info("dispatcher.job_sent")

    def send(self, job: Job) -> Future[Receipt]:
        """Hand a job to its transport.

        Raises:
            TransportError: its transport is not configured here.
        """
        route = self._routing.route(job)
        return self._bridge.submit(route.transport, self._dispatch(job))

    def _settle(self, job_id: str, error: TransportError, *, deliveries: int) -> None:
        plan = plan_retry(
            error,
            deliveries=deliveries,
            max_retries=self._settings.job_max_retries,
            base_seconds=self._settings.retry_base_seconds,
            jitter=random.random(),  # noqa: S311 - spreads load, guards nothing
        )
        if plan.action == "give_up":
            self._fail(job_id, "dispatch_failed", error.reason)
            return
        raise RetryLaterError(error.reason, delay_seconds=plan.delay_seconds)

    def _fail(self, job_id: str, code: str, reason: str) -> None:
        message = f"Could not be handed to an analysis server: {reason}"
        log.error("dispatcher.job_failed", code=code, reason=reason)
        self._store.apply(
            [
                Change(
                    job_id=job_id,
                    to=JobStatus.FAILED,
                    message=message,
                    failure=Failure(code, message),
                )
            ]
        )

    def _take_up(self, job_id: str) -> tuple[Job, Outcome] | None:
        """Note that a worker has the job; None if there is nothing to dispatch any more."""
        change = Change(
            job_id=job_id,
            to=JobStatus.PROCESSING,
            message="Picked up by a dispatcher",
            takes_up=True,
        )
        with self._database.begin() as session:
            job = session.get(Job, job_id)
            if job is None or JobStatus(job.status) not in _DISPATCHABLE:
                log.info("dispatcher.message_obsolete", status=job.status if job else None)
                return None
            outcome = self._store.apply_in(session, [change])[0]
        self._store.publish([outcome])
        return (job, outcome) if outcome.applied else None

    def _dispatch(self, job: Job) -> Dispatch:
        return Dispatch(
            request=build_request(job, self._settings, now=datetime.now(UTC)),
            lane=Lane(job.lane),
            trace=current_trace(),
            # Who is asked again has not begun: what another told before says nothing of it.
            metadata={ANALYSIS_PROGRESS: None}
            if job.status == JobStatus.QUEUED_FOR_ANALYSIS
            else {},
        )


def build_request(job: Job, settings: DispatcherSettings, *, now: datetime) -> AnalysisRequest:
    """Make what an analysis server gets to know of a job (A5)."""
    secrets = settings.callback_token_secret_texts()
    token = webhooks.callback_token(job.id, secret=secrets[0]) if secrets else None
    url = webhooks.callback_url(settings.webhook_url, job.id, token=token)
    token_id = job.token_id or ""
    return AnalysisRequest(
        job_id=job.id,
        s3_audio_url=job.input["s3_audio_url"],
        token_id=token_id,
        video_id=token_id,
        s3_textgrid_url=job.input.get("s3_textgrid_url"),
        s3_pitch_url=job.input.get("s3_pitch_url"),
        callback_url=url,
        webhook_url=url,
        timestamp=now,
    )
