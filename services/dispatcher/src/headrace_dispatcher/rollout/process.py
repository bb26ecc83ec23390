"""The parts of the roll-out that run in a dispatcher, put together."""

from collections.abc import Callable, Sequence

from fastapi import APIRouter

from headrace_common.db import Database, Job
from headrace_common.web import Check
from headrace_dispatcher.asking import AskingAgain
from headrace_dispatcher.circuits import Circuits
from headrace_dispatcher.rollout.api import RolloutDesk, rollout_router
from headrace_dispatcher.rollout.copies import Copies, copy_of
from headrace_dispatcher.rollout.current import CurrentRollout
from headrace_dispatcher.rollout.guarding import Guarding
from headrace_dispatcher.rollout.outcomes import Outcomes
from headrace_dispatcher.rollout.routing import RolloutRouting
from headrace_dispatcher.rollout.state import from_environment
from headrace_dispatcher.settings import DispatcherSettings
from headrace_dispatcher.transports import Dispatch, Transport, TransportName


class RolloutProcess:
    """Decides, counts, copies and guards; `routing` is what dispatching asks."""

    def __init__(
        self,
        database: Database,
        transports: Sequence[Transport],
        circuits: Circuits,
        settings: DispatcherSettings,
    ) -> None:
        """Put the parts together; nothing runs before `start`."""
        configured = [transport.name for transport in transports]
        self._database = database
        self._settings = settings
        self._circuits = circuits
        self.current = CurrentRollout(database, from_environment(use_sqs=settings.use_sqs_queue))
        self._outcomes = Outcomes(database, self.current)
        self._copies = Copies(database, transports)
        self.routing = RolloutRouting(
            self.current, self._outcomes, configured=configured, copy=self._copy
        )
        self._guarding: Guarding | None = None
        self._desk = RolloutDesk(database, self.current, circuits, configured)

    def start(self, make_asking: Callable[[], AskingAgain]) -> None:
        """Start the threads.

        Args:
            make_asking: makes what sends jobs again, for the guard alone.
        """
        self.current.start()
        self._outcomes.start()
        self._guarding = Guarding(self._database, self.current, make_asking(), self._circuits)
        self._guarding.start()

    def stop(self) -> None:
        """End what runs; copies that wait are sent."""
        if self._guarding is not None:
            self._guarding.stop()
            self._outcomes.stop()
            self.current.stop()
        self._copies.close()

    def checks(self) -> list[Check]:
        """Return the checks of what must run in this process."""
        return [
            Check("rollout", self.current.check),
            Check("rollout_outcomes", self._outcomes.check),
            Check("rollout_guard", self._check_guard),
        ]

    def router(self) -> APIRouter:
        """Return the routes."""
        return rollout_router(self._desk)

    def _check_guard(self) -> None:
        if self._guarding is None:
            raise RuntimeError("the guard has not been started")
        self._guarding.check()

    def _copy(self, job: Job, dispatch: Dispatch, name: TransportName) -> None:
        """Send a copy of a job that was taken over `name`, soon or never."""
        copy = copy_of(job, dispatch, self._settings, webhook_url=self._settings.webhook_url)
        self._copies.send(copy, name)
