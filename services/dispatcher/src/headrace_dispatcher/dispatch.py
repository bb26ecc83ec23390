"""What a dispatch actor does with one job, and what it does when that fails.

Nothing of a job waits in a worker's memory or in Redis: what is to be tried again later is a row
that says so (`retry_at`), and its message is done.
"""

import random
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from headrace_common.circuit import CircuitBreaker, CircuitState
from headrace_common.contracts.analysis import ANALYSIS_PROGRESS
from headrace_common.contracts.jobs import JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_common.db import Database, Job
from headrace_common.jobs import Change, Failure, JobStore
from headrace_common.telemetry import current_trace
from headrace_common.telemetry.trace import fail_span, note_status
from headrace_dispatcher.bridge import Bridge
from headrace_dispatcher.circuits import Circuits, at_fault
from headrace_dispatcher.gate import DATABASE_AWAY, Gate
from headrace_dispatcher.request import build_request
from headrace_dispatcher.retries import (
    REFUSALS,
    costs_a_try,
    hold_seconds,
    is_poison,
    plan_retry,
    refusals_of,
)
from headrace_dispatcher.routing import Route, Routing
from headrace_dispatcher.settings import DispatcherSettings
from headrace_dispatcher.transports import Dispatch, Receipt, TransportError

log = structlog.get_logger()

#: A message may be in hand in these statuses; later ones have been sent already.
_DISPATCHABLE: Final = frozenset({JobStatus.QUEUING, JobStatus.QUEUED, JobStatus.PROCESSING})


class NotNowError(Exception):
    """Nothing can be done now, with this job or any other of its lane: its message goes back."""


@dataclass(frozen=True)
class _Try:
    """A job in hand, and the way that it takes.

    Attributes:
        deliveries: times that it was taken up in its stage; 0: its way is closed, it was not.
    """

    job: Job
    route: Route
    circuit: CircuitBreaker
    deliveries: int


class Dispatching:
    """Takes a job to the analysis servers, at least once and with a final word on failure."""

    def __init__(
        self,
        database: Database,
        store: JobStore,
        bridge: Bridge,
        routing: Routing,
        circuits: Circuits,
        gate: Gate,
        settings: DispatcherSettings,
    ) -> None:
        """Work with these."""
        self._database = database
        self._store = store
        self._bridge = bridge
        self._routing = routing
        self._circuits = circuits
        self._gate = gate
        self._settings = settings

    def run(self, job_id: str, lane: Lane) -> None:
        """Dispatch a job whose message came; a message that came twice does nothing.

        Raises:
            NotNowError: the message is to go back to its lane.
        """
        if self._gate.is_shut(lane.queue_name):
            raise NotNowError("the lane is paused, or every way out is closed")
        try:
            tried = self._take_up(job_id)
            if tried is None:
                return
            if tried.deliveries == 0:
                self._wait(tried, lane)
                return
            self._try(tried)
        except DATABASE_AWAY as error:
            self._gate.database_failed(error)
            raise NotNowError("the database is away") from error

    def send_again(self, job: Job, *, claim: Callable[[], bool]) -> Future[Receipt] | None:
        """Hand a job to its transport once more, if it can be claimed; None if not.

        Raises:
            TransportError: its transport is not configured here, or known to be at fault.
        """
        route = self._routing.route(job)
        circuit = self._circuits.of(route.transport)
        if not circuit.allow():
            raise at_fault(circuit)
        try:
            claimed = claim()
        except Exception:
            circuit.leave()
            raise
        if not claimed:
            circuit.leave()
            return None
        return self._submit(route, job)[0]

    def _try(self, tried: _Try) -> None:
        most = self._settings.job_max_deliveries
        if is_poison(tried.job, deliveries=tried.deliveries, most=most):
            tried.circuit.leave()
            reason = f"{most} workers died while they had it in hand"
            self._fail(tried.job, "poison_message", reason)
            return
        try:
            future, dispatch = self._submit(tried.route, tried.job)
            receipt = future.result()
        except TransportError as error:
            self._settle(tried, error)
        except DATABASE_AWAY:
            raise
        except Exception as error:
            log.exception("dispatcher.try_failed")
            reason = f"an error of the dispatcher's own: {type(error).__name__}"
            self._settle(tried, TransportError(reason, retryable=True))
        else:
            if receipt.noted:
                note_status(tried.job.id, JobStatus.QUEUED_FOR_ANALYSIS)
            log.info("dispatcher.job_sent")
            self._routing.taken(tried.job, dispatch, tried.route)

    def _submit(self, route: Route, job: Job) -> tuple[Future[Receipt], Dispatch]:
        try:
            dispatch = self._dispatch(job)
            return self._bridge.submit(route.transport, dispatch), dispatch
        except Exception:
            self._circuits.of(route.transport).leave()
            raise

    def _settle(self, tried: _Try, error: TransportError) -> None:
        """End a try that failed: hold the job, let it try again later, or end it."""
        if not error.retryable:
            self._fail(tried.job, "dispatch_failed", error.reason)
            return
        if costs_a_try(
            error,
            is_closed=tried.circuit.state is CircuitState.CLOSED,
            waited=datetime.now(UTC) - (tried.job.queued_at or tried.job.created_at),
            patience=timedelta(seconds=self._settings.dispatch_patience_seconds),
        ):
            self._retry(tried, error)
        else:
            self._hold(tried, error.reason, retry_after=error.retry_after)

    def _retry(self, tried: _Try, error: TransportError) -> None:
        refusals = refusals_of(tried.job) + 1
        plan = plan_retry(
            error,
            refusals=refusals,
            max_retries=self._settings.job_max_retries,
            base_seconds=self._settings.retry_base_seconds,
            jitter=_jitter(),
        )
        if plan.action == "give_up":
            self._fail(tried.job, "dispatch_failed", error.reason)
            return
        self._store.apply(
            [
                Change(
                    job_id=tried.job.id,
                    to=JobStatus.PROCESSING,
                    message=f"{error.reason}; trying again in {plan.delay_seconds:.1f} s",
                    only_from=frozenset({JobStatus.PROCESSING}),
                    only_run=tried.job.run,
                    metadata={REFUSALS: refusals},
                    retry_at=datetime.now(UTC) + timedelta(seconds=plan.delay_seconds),
                )
            ]
        )

    def _wait(self, tried: _Try, lane: Lane) -> None:
        """Put a job aside whose way is closed: in its lane if that is shut, else in its row."""
        if self._gate.is_shut(lane.queue_name):
            raise NotNowError("every way out is closed")
        self._hold(tried, "it is known to be at fault")

    def _hold(self, tried: _Try, reason: str, *, retry_after: float | None = None) -> None:
        seconds = hold_seconds(
            circuit_seconds=tried.circuit.seconds_left,
            retry_after=retry_after,
            least_seconds=self._settings.circuit_first_pause_seconds,
            jitter=_jitter(),
        )
        dependency = tried.circuit.dependency
        self._store.hold(
            tried.job.id,
            until=datetime.now(UTC) + timedelta(seconds=seconds),
            waiting_for=dependency,
            message=f"Waiting for {dependency}: {reason}",
            gives_back=tried.deliveries > 0,
            only_run=tried.job.run,
        )
        log.info("dispatcher.job_held", waiting_for=dependency, seconds=round(seconds, 1))

    def _fail(self, job: Job, code: str, reason: str) -> None:
        message = f"Could not be handed to an analysis server: {reason}"
        log.error("dispatcher.job_failed", code=code, reason=reason)
        fail_span(f"{code}: {reason}")
        self._store.apply(
            [
                Change(
                    job_id=job.id,
                    to=JobStatus.FAILED,
                    message=message,
                    only_run=job.run,
                    failure=Failure(code, message),
                )
            ]
        )

    def _take_up(self, job_id: str) -> _Try | None:
        """Note that a worker has the job; None if there is nothing to dispatch any more."""
        with self._database.begin() as session:
            job = session.get(Job, job_id)
            if job is None or not _is_dispatchable(job):
                log.info("dispatcher.message_obsolete", status=job.status if job else None)
                return None
            route = self._routing.route(job)
            circuit = self._circuits.of(route.transport)
            if not circuit.allow():
                return _Try(job, route, circuit, deliveries=0)
            change = _taken_up(job, route)
            try:
                outcome = self._store.apply_in(session, [change])[0]
            except Exception:
                circuit.leave()
                raise
        self._store.publish([outcome])
        if not outcome.applied:
            circuit.leave()
            return None
        return _Try(job, route, circuit, outcome.deliveries)

    def _dispatch(self, job: Job) -> Dispatch:
        return Dispatch(
            request=build_request(job, self._settings, now=datetime.now(UTC)),
            lane=Lane(job.lane),
            trace=current_trace(),
            run=job.run,
            # Who is asked again has not begun: what another told before says nothing of it.
            metadata={ANALYSIS_PROGRESS: None}
            if job.status == JobStatus.QUEUED_FOR_ANALYSIS
            else {},
        )


def _is_dispatchable(job: Job) -> bool:
    """Whether the message in hand may be the job's: one that waits has none under way."""
    return JobStatus(job.status) in _DISPATCHABLE and job.retry_at is None


def _taken_up(job: Job, route: Route) -> Change:
    return Change(
        job_id=job.id,
        to=JobStatus.PROCESSING,
        message="Picked up by a dispatcher",
        transport=route.transport,
        only_run=job.run,
        # Of an earlier stage or run.
        metadata={} if refusals_of(job) or REFUSALS not in job.meta else {REFUSALS: 0},
        takes_up=True,
    )


def _jitter() -> float:
    return random.random()  # noqa: S311 - spreads load, guards nothing
