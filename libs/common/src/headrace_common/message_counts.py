"""What Dramatiq tries again, and what it gives up."""

from typing import Any, Final

from dramatiq import Actor, Broker, Message, Middleware
from dramatiq.broker import MessageProxy
from prometheus_client import Counter

from headrace_common.telemetry.metrics import MESSAGES_PROCESSED, MESSAGES_SENT, from_zero

#: Of an actor that has worked on a message.
OUTCOMES: Final = ("done", "failed")
#: Of an actor that this process does not have.
_UNKNOWN: Final = "unknown"

_RETRIED: Final = Counter(
    "headrace_messages_retried_total",
    "Dramatiq messages that were put back for another try",
    ["actor"],
)
_GIVEN_UP: Final = Counter(
    "headrace_messages_given_up_total",
    "Dramatiq messages that went to the dead letters",
    ["actor"],
)


class CountMessages(Middleware):
    """Counts them."""

    def after_declare_actor(self, broker: Broker, actor: Actor[Any, Any]) -> None:
        """Begin at nothing."""
        for counter in (_RETRIED, _GIVEN_UP):
            from_zero(counter, (actor.actor_name, _UNKNOWN))
        for outcome in OUTCOMES:
            MESSAGES_PROCESSED.labels(actor=actor.actor_name, outcome=outcome)

    def after_declare_queue(self, broker: Broker, queue_name: str) -> None:
        """Begin at nothing."""
        from_zero(MESSAGES_SENT, (queue_name,), ("sent", "failed"))

    def before_enqueue(self, broker: Broker, message: "Message[Any]", delay: int | None) -> None:
        """Count a message that was tried before, once: it waits first, then is queued again."""
        if delay is not None and message.options.get("retries"):
            _RETRIED.labels(actor=_known(broker, message.actor_name)).inc()

    def after_nack(self, broker: Broker, message: MessageProxy) -> None:
        """Count one that is given up."""
        _GIVEN_UP.labels(actor=_known(broker, message.actor_name)).inc()


def _known(broker: Broker, actor_name: str) -> str:
    """Name an actor of this process; what else a queue may hold must not become labels."""
    return actor_name if actor_name in broker.get_declared_actors() else _UNKNOWN
