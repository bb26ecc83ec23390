"""The dispatch actors: one a lane, because a worker orders its queues by actor priority."""

import dramatiq
from dramatiq import Broker
from dramatiq.errors import Retry

from headrace_common.contracts.lanes import Lane
from headrace_common.contracts.messages import DispatchJob, dispatch_actor
from headrace_dispatcher.dispatch import Dispatching, RetryLaterError


def register_actors(broker: Broker, dispatching: Dispatching) -> set[str]:
    """Declare the dispatch actor of every lane on `broker`, and return their queues."""

    def dispatch(**payload: str) -> None:
        job = DispatchJob.model_validate(payload)
        try:
            dispatching.run(job.job_id)
        except RetryLaterError as later:
            raise Retry(str(later), delay=int(later.delay_seconds * 1000)) from later

    for lane in Lane:
        declare = dramatiq.actor(
            actor_name=dispatch_actor(lane).value,
            queue_name=lane.queue_name,
            priority=lane.rank,  # Dramatiq takes the lowest first
            broker=broker,
            # The job's own count of deliveries is the budget, because Dramatiq's does not see
            # killed workers; what is left to Dramatiq are errors such as a database that is away.
            max_retries=None,
        )
        declare(dispatch)
    return {lane.queue_name for lane in Lane}
