"""The bridge: from single jobs to batches on a transport, and the rows of what was taken."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Final

from prometheus_client import Counter, Histogram
from tenacity import (
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_delay,
    stop_when_event_set,
    wait_exponential,
)

from headrace_common.circuit import CircuitState
from headrace_common.contracts.jobs import JobStatus
from headrace_common.contracts.lanes import Lane
from headrace_common.jobs import Change, JobStore, Outcome
from headrace_common.telemetry.messaging import MessagingSystem, begin_send, end_with, queue_of
from headrace_common.telemetry.metrics import from_zero
from headrace_common.telemetry.trace import inside_trace, trace_of
from headrace_dispatcher.circuits import Circuits, at_fault, judge
from headrace_dispatcher.gate import DATABASE_AWAY
from headrace_dispatcher.microbatch import BatchLimits, MicroBatcher
from headrace_dispatcher.routing import Routing
from headrace_dispatcher.transports import (
    Dispatch,
    Receipt,
    Transport,
    TransportError,
    TransportName,
    wire_size,
)

_SENT: Final = Counter(
    "headrace_dispatches_total", "Jobs handed to a transport", ["transport", "lane", "outcome"]
)
from_zero(_SENT, TransportName, Lane, ("taken", "refused"))
_BATCH_ENTRIES: Final = Histogram(
    "headrace_dispatch_batch_entries",
    "Jobs in a batch",
    ["transport"],
    buckets=(1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
)
_BATCH_SECONDS: Final = Histogram(
    "headrace_dispatch_batch_duration_seconds",
    "Time to send a batch and note it",
    ["transport"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)
#: How long receipts are kept for a database that is away.
_NOTE_PATIENCE_SECONDS: Final = 60.0


class Bridge:
    """Sends dispatches in micro-batches, one batcher for each place a transport sends to."""

    def __init__(
        self,
        transports: Sequence[Transport],
        store: JobStore,
        routing: Routing,
        circuits: Circuits,
        *,
        linger_seconds: float,
        senders: int,
    ) -> None:
        """Make and start it; see `MicroBatcher` for the arguments."""
        self._store = store
        self._routing = routing
        self._circuits = circuits
        self._closing = threading.Event()
        self._transports = {transport.name: transport for transport in transports}
        self._batchers: dict[tuple[TransportName, str], MicroBatcher[Dispatch, Receipt]] = {}
        for transport in transports:
            for destination in transport.destinations():
                self._batchers[transport.name, destination] = self._batcher(
                    transport, destination, linger_seconds=linger_seconds, senders=senders
                )

    def submit(self, name: TransportName, dispatch: Dispatch) -> "Future[Receipt]":
        """Send a job; once the future is done, the job's row says so.

        Raises:
            TransportError: that transport is not configured here.
        """
        transport = self._transports.get(name)
        if transport is None:
            raise TransportError(f"the {name} transport is not configured", retryable=True)
        destination = transport.destination(dispatch.lane)
        batcher = self._batchers[name, destination]
        if name is not TransportName.SQS:
            return batcher.submit(dispatch)
        span = begin_send(
            MessagingSystem.SQS, queue_of(destination), job_id=dispatch.request.job_id
        )
        future = batcher.submit(replace(dispatch, trace=trace_of(span)))
        end_with(span, future)
        return future

    def check(self) -> None:
        """Check that every batcher works."""
        for batcher in self._batchers.values():
            batcher.check()

    def close(self) -> None:
        """Send what waits and close the transports."""
        self._closing.set()
        for batcher in self._batchers.values():
            batcher.close()
        for transport in self._transports.values():
            transport.close()

    def _batcher(
        self, transport: Transport, destination: str, *, linger_seconds: float, senders: int
    ) -> "MicroBatcher[Dispatch, Receipt]":
        return MicroBatcher(
            lambda batch: self._send(transport, destination, batch),
            name=f"{transport.name}-{destination.rsplit('/', 1)[-1]}",
            limits=BatchLimits(
                entries=transport.max_entries,
                size=transport.max_bytes,
                linger_seconds=linger_seconds if transport.max_entries > 1 else 0.0,
            ),
            size_of=wire_size,
            senders=senders,
        )

    def _send(
        self, transport: Transport, destination: str, batch: Sequence[Dispatch]
    ) -> list[Receipt | TransportError]:
        circuit = self._circuits.of(transport.name)
        if circuit.state is CircuitState.OPEN:
            # It waited here while others found out.
            return [at_fault(circuit)] * len(batch)
        started = time.perf_counter()
        answers: list[Receipt | TransportError]
        try:
            # A call for several jobs is seen in the trace of the first.
            with inside_trace(batch[0].trace):
                answers = transport.send(destination, batch)
        except TransportError as error:
            answers = [error] * len(batch)
        except Exception:
            circuit.leave()
            raise
        judge(circuit, answers)
        answers = self._note(transport.name, batch, answers)
        taken = [answer for answer in answers if isinstance(answer, Receipt)]
        _BATCH_ENTRIES.labels(transport=transport.name).observe(len(batch))
        _BATCH_SECONDS.labels(transport=transport.name).observe(time.perf_counter() - started)
        self._routing.attempted(transport.name, taken=len(taken), refused=len(batch) - len(taken))
        for dispatch, answer in zip(batch, answers, strict=True):
            outcome = "taken" if isinstance(answer, Receipt) else "refused"
            _SENT.labels(transport=transport.name, lane=dispatch.lane, outcome=outcome).inc()
        return answers

    def _note(
        self,
        name: TransportName,
        batch: Sequence[Dispatch],
        answers: Sequence[Receipt | TransportError],
    ) -> list[Receipt | TransportError]:
        """Note what was taken, and in the receipts that it was noted."""
        changes = {
            index: _taken(name, dispatch, answer)
            for index, (dispatch, answer) in enumerate(zip(batch, answers, strict=True))
            if isinstance(answer, Receipt)
        }
        outcomes = self._apply(list(changes.values())) if changes else []
        noted = {index: outcome.applied for index, outcome in zip(changes, outcomes, strict=True)}
        return [
            replace(answer, noted=noted[index]) if isinstance(answer, Receipt) else answer
            for index, answer in enumerate(answers)
        ]

    def _apply(self, changes: Sequence[Change]) -> list[Outcome]:
        """Change the rows, as soon as the database lets us.

        A receipt that is not noted means that its job is sent once more, so that it is kept over
        an outage as long as one can expect to end.
        """
        patient = Retrying(
            retry=retry_if_exception_type(DATABASE_AWAY),
            wait=wait_exponential(multiplier=0.1, max=2.0),
            stop=stop_after_delay(_NOTE_PATIENCE_SECONDS) | stop_when_event_set(self._closing),
            sleep=sleep_using_event(self._closing),
            reraise=True,
        )
        return patient(self._store.apply, changes)


def _taken(name: TransportName, dispatch: Dispatch, receipt: Receipt) -> Change:
    return Change(
        job_id=dispatch.request.job_id,
        to=JobStatus.QUEUED_FOR_ANALYSIS,
        message="Sent to SQS, waiting for an analysis server"
        if name is TransportName.SQS
        else "Taken by the analysis server",
        metadata=dispatch.metadata | receipt.metadata,
        transport=name,
        # Begun anew meanwhile, it has another message, which is not obsolete.
        only_run=dispatch.run,
        takes_up=True,
    )
