"""The circuit breakers of this process: one a transport, and one for the database."""

from collections.abc import Callable, Collection, Sequence
from typing import Final

from headrace_common.circuit import (
    CircuitBreaker,
    CircuitOpenError,
    CircuitPolicy,
    CircuitState,
    CircuitView,
)
from headrace_dispatcher.transports import Receipt, TransportError, TransportName

#: What each transport depends on, as metrics and `waiting_for` name it.
DEPENDENCIES: Final = {TransportName.SQS: "sqs", TransportName.HTTP: "analysis_server"}
#: Without its database a worker can do nothing at all, and one that looks each second tells soon
#: when it is back: the first error opens.
_DATABASE_POLICY: Final = CircuitPolicy(failures=1, first_seconds=1.0, most_seconds=1.0)


class Circuits:
    """Knows which ways out are closed. Safe to use from any thread."""

    def __init__(self, policy: CircuitPolicy) -> None:
        """Make them, closed.

        Args:
            policy: of the transports' breakers.
        """
        self._by_transport = {
            name: CircuitBreaker(dependency, policy) for name, dependency in DEPENDENCIES.items()
        }
        self.postgres = CircuitBreaker("postgres", _DATABASE_POLICY)

    def of(self, name: TransportName) -> CircuitBreaker:
        """Return the breaker of a transport."""
        return self._by_transport[name]

    def outside(self) -> list[CircuitBreaker]:
        """Return those of the transports."""
        return list(self._by_transport.values())

    def views(self) -> list[CircuitView]:
        """Describe all of them."""
        return [circuit.view() for circuit in (*self._by_transport.values(), self.postgres)]

    def fault_seconds(self, name: TransportName, *, other: TransportName) -> float:
        """Say for how long a side has been at fault; 0 if it is not, or the other one is too.

        One that nobody has tried lately may be well by now, so that it counts as such.
        """
        view = self.of(name).view()
        is_tried = view.state is CircuitState.HALF_OPEN or view.next_try_seconds > 0
        alone = self.of(other).state is CircuitState.CLOSED
        return view.open_seconds if is_tried and alone else 0.0

    def room(self, sides: Collection[TransportName]) -> int | None:
        """Say how many jobs may be fetched that take one of `sides`.

        Returns:
            None: any number. 1: one that tries whether its side answers again. 0: none.
        """
        circuits = [self._by_transport[name] for name in sides]
        if not circuits or any(circuit.state is CircuitState.CLOSED for circuit in circuits):
            return None
        return 1 if any(circuit.seconds_left == 0 for circuit in circuits) else 0


def circuit_check(circuit: CircuitBreaker) -> Callable[[], None]:
    """Make a check for readiness that fails while a dependency is known to be at fault."""

    def check() -> None:
        if circuit.state is not CircuitState.CLOSED:
            raise CircuitOpenError(circuit.view().reason or f"{circuit.dependency} is at fault")

    return check


def at_fault(circuit: CircuitBreaker) -> TransportError:
    """Make the error of a call that was not made."""
    return TransportError(
        f"{circuit.dependency} is known to be at fault",
        retryable=True,
        systemic=True,
        retry_after=circuit.seconds_left,
    )


def judge(circuit: CircuitBreaker, answers: Sequence[Receipt | TransportError]) -> None:
    """Tell a breaker what the answers to one call say of the dependency.

    An error that can pass speaks against it, whether or not the job may be at fault: a few jobs
    at fault are fewer than what opens a circuit.
    """
    faults = [answer for answer in answers if isinstance(answer, TransportError)]
    faults = [fault for fault in faults if fault.retryable]
    if len(faults) < len(answers):
        circuit.succeeded()
        return
    waits = [fault.retry_after for fault in faults if fault.retry_after is not None]
    circuit.failed(faults[0].reason, retry_after=max(waits, default=None))
