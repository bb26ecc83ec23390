"""Divides jobs between the transports as the roll-out says, see `headrace_dispatcher.routing`."""

from collections.abc import Callable, Collection

from headrace_common.db import Job
from headrace_dispatcher.rollout.current import CurrentRollout
from headrace_dispatcher.rollout.decision import is_shadowed, other_side, side_of
from headrace_dispatcher.rollout.outcomes import Outcomes
from headrace_dispatcher.rollout.state import ALL, RolloutState
from headrace_dispatcher.routing import Route, was_sent
from headrace_dispatcher.transports import Dispatch, TransportName


class RolloutRouting:
    """Answers `Routing` by what is set now."""

    def __init__(
        self,
        current: CurrentRollout,
        outcomes: Outcomes,
        *,
        configured: Collection[TransportName],
        copy: Callable[[Job, Dispatch, TransportName], None],
    ) -> None:
        """Make it.

        Args:
            current: what is set.
            outcomes: counts attempts.
            configured: transports of this process.
            copy: sends a copy of a job over the named side; never waits, never fails.
        """
        self._copy = copy
        self._current = current
        self._outcomes = outcomes
        self._configured = frozenset(configured)

    def route(self, job: Job) -> Route:
        """Decide by the job's id; one that was sent keeps its side, unless that is rolled back."""
        state = self._current.state
        if job.transport is not None and was_sent(job) and not self._may_switch(job):
            return Route(TransportName(job.transport))
        name = self._available(side_of(job.id, sqs_percent=state.sqs_percent))
        return Route(name, self._shadow(job, name, state))

    def _may_switch(self, job: Job) -> bool:
        """Whether the side that the job was sent to was rolled back since."""
        state = self._current.state
        return (
            state.rolled_back is not None
            and job.transport == state.rolled_back
            and other_side(state.rolled_back) in self._configured
        )

    def in_use(self) -> frozenset[TransportName]:
        """Return the sides that new jobs may take now."""
        percent = self._current.state.sqs_percent
        sides = set()
        if percent > 0:
            sides.add(self._available(TransportName.SQS))
        if percent < ALL:
            sides.add(self._available(TransportName.HTTP))
        return frozenset(sides)

    def attempted(self, name: TransportName, *, taken: int, refused: int) -> None:
        """Count what became of attempts to send over `name`."""
        self._outcomes.add(name, taken=taken, refused=refused)

    def taken(self, job: Job, dispatch: Dispatch, route: Route) -> None:
        """Send a copy of a job that its side took, where one is wanted."""
        if route.shadow is not None:
            self._copy(job, dispatch, route.shadow)

    def _available(self, name: TransportName) -> TransportName:
        """Return `name`, or the other side where it is not configured in this process any more."""
        if name in self._configured or other_side(name) not in self._configured:
            return name
        return other_side(name)

    def _shadow(self, job: Job, name: TransportName, state: RolloutState) -> TransportName | None:
        other = other_side(name)
        if was_sent(job) or other not in self._configured:
            return None
        return other if is_shadowed(job.id, shadow_percent=state.shadow_percent) else None
