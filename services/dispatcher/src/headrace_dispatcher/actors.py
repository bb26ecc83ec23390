"""The dispatch actors: one a lane, because a worker orders its queues by actor priority."""

from collections.abc import Callable

import dramatiq
from dramatiq import Broker

from headrace_common.contracts.lanes import Lane
from headrace_common.contracts.messages import DispatchJob, dispatch_actor
from headrace_dispatcher.dispatch import Dispatching, NotNowError
from headrace_dispatcher.lanes import hand_back


def register_actors(broker: Broker, dispatching: Dispatching) -> set[str]:
    """Declare the dispatch actor of every lane on `broker`, and return their queues."""
    for lane in Lane:
        declare = dramatiq.actor(
            actor_name=dispatch_actor(lane).value,
            queue_name=lane.queue_name,
            priority=lane.rank,  # Dramatiq takes the lowest first
            broker=broker,
            # What can be tried again waits in its row. What is left are messages that nobody can
            # read, and those that a time limit ended: dead letters.
            max_retries=0,
        )
        declare(_dispatcher(lane, dispatching))
    return {lane.queue_name for lane in Lane}


def _dispatcher(lane: Lane, dispatching: Dispatching) -> Callable[..., None]:
    def dispatch(**payload: str) -> None:
        job = DispatchJob.model_validate(payload)
        try:
            dispatching.run(job.job_id, lane)
        except NotNowError:
            hand_back()

    return dispatch
