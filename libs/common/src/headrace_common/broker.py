"""Dramatiq on Redis: the broker, sending by contract, and what surrounds each message.

A sender names actor and queue by contract and imports no actor. What Dramatiq does not do by
itself is done here: trace context and job id go along, durations are measured, and every
default that matters is set and says why.
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from threading import local
from typing import Any, Final

import dramatiq
import redis
import structlog
from dramatiq import Broker, Message, Middleware
from dramatiq.broker import MessageProxy
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import Retries, ShutdownNotifications, TimeLimit
from pydantic import BaseModel

from headrace_common.consumers import RepairingBroker
from headrace_common.contracts.messages import ActorName
from headrace_common.message_counts import CountMessages
from headrace_common.redis_client import redis_client
from headrace_common.settings import RedisSettings
from headrace_common.telemetry.messaging import MessagingSystem, processing, sending
from headrace_common.telemetry.metrics import MESSAGES_PROCESSED, MESSAGES_SENT
from headrace_common.telemetry.trace import current_trace, note_error

log = structlog.get_logger()

#: Recovery of a dead worker's messages runs on this many of a million commands of a queue.
#: The default of 1,000 took minutes in measurements, this takes ten seconds.
_MAINTENANCE_CHANCE: Final = 100_000
#: What a message is about, by the names of its arguments: for logs and spans.
_BOUND: Final = ("job_id", "inbox_id", "firing_id")
#: Dramatiq's dead letters are kept a week; the job's row says the same for longer.
_DEAD_MESSAGE_TTL_MS: Final = 7 * 24 * 3600 * 1000
#: A message that is not there any more must not come back: it would be taken for one that waits.
_REWRITE: Final = """
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
return redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
"""


class QueueUnavailableError(Exception):
    """Redis did not take a message. The job's row stays, and a sweeper sends it again."""


def make_broker(
    settings: RedisSettings,
    *,
    max_retries: int = 3,
    time_limit_seconds: float = 900,
    broker_class: type[RepairingBroker] = RepairingBroker,
) -> RedisBroker:
    """Make the broker and install it as Dramatiq's own.

    Args:
        settings: where Redis is.
        max_retries: times that a failed message is tried again, with growing delays.
        time_limit_seconds: an actor is interrupted after so long (not inside C code).
        broker_class: a kind of RepairingBroker.
    """
    broker = broker_class(
        client=redis_client(settings),
        namespace=settings.dramatiq_namespace,
        maintenance_chance=_MAINTENANCE_CHANCE,
        heartbeat_timeout=int(settings.dramatiq_heartbeat_timeout_seconds * 1000),
        dead_message_ttl=_DEAD_MESSAGE_TTL_MS,
        middleware=[
            # Outermost first: what follows is traced and measured, the last decides on retries.
            MessageContext(),
            CountMessages(),
            KeepMessageId(),
            KeepReason(),
            TimeLimit(time_limit=int(time_limit_seconds * 1000)),
            ShutdownNotifications(),
            Retries(max_retries=max_retries, min_backoff=1_000, max_backoff=60_000),
        ],
    )
    dramatiq.set_broker(broker)
    return broker


def new_message(
    actor: ActorName, queue_name: str, payload: BaseModel, *, message_id: str | None = None
) -> "Message[Any]":
    """Make a message for `actor` by contract, carrying the current trace context."""
    message: Message[Any] = Message(
        queue_name=queue_name,
        actor_name=actor.value,
        args=(),
        kwargs=payload.model_dump(mode="json"),
        options={"trace": current_trace()},
    )
    return message.copy(message_id=message_id) if message_id else message


def send(broker: Broker, message: "Message[Any]") -> None:
    """Put `message` on its queue.

    Raises:
        QueueUnavailableError: Redis is away.
    """
    broker.declare_queue(message.queue_name)
    try:
        _enqueue(broker, message)
    except (redis.RedisError, dramatiq.errors.ConnectionError) as error:
        MESSAGES_SENT.labels(queue=message.queue_name, outcome="failed").inc()
        raise QueueUnavailableError(str(error)) from error
    MESSAGES_SENT.labels(queue=message.queue_name, outcome="sent").inc()


def _enqueue(broker: Broker, message: "Message[Any]") -> None:
    job_id = message.kwargs.get("job_id")
    with sending(
        MessagingSystem.DRAMATIQ,
        message.queue_name,
        message.options.get("trace"),
        message_id=message.message_id,
        job_id=job_id,
    ) as span:
        if span.is_recording():
            message.options["trace"] = current_trace()
        broker.enqueue(message)


def lost_messages(broker: RedisBroker, queue_name: str, message_ids: Sequence[str]) -> list[str]:
    """Return those of `message_ids` that Redis does not hold, neither waiting nor in work.

    Exact for messages that were never retried; a retry lives under another id.

    Raises:
        QueueUnavailableError: Redis is away, which says nothing of the messages.
    """
    try:
        with broker.client.pipeline(transaction=False) as pipeline:
            for message_id in message_ids:
                pipeline.hexists(f"{broker.namespace}:{queue_name}.msgs", message_id)
            held = pipeline.execute()
    except redis.RedisError as error:
        raise QueueUnavailableError(str(error)) from error
    return [
        message_id for message_id, is_held in zip(message_ids, held, strict=True) if not is_held
    ]


class KeepMessageId(Middleware):
    """Makes Dramatiq keep a new message under its own id, so that it can be looked up.

    Dramatiq's key would be random. A retry must have another key than what it retries, so
    only first sendings are changed. A test against a real server watches over this.
    """

    def before_enqueue(self, broker: Broker, message: "Message[Any]", delay: int | None) -> None:
        """Choose the key of `message`."""
        if delay is None and "retries" not in message.options:
            message.options["redis_message_id"] = message.message_id


class KeepReason(Middleware):
    """Makes a dead letter say what its last attempt died of.

    Dramatiq keeps the message as it was sent for that attempt, with the error of the one before, or
    with none. Here it is written anew before it is moved to the dead letters.
    """

    def before_nack(self, broker: Broker, message: MessageProxy) -> None:
        """Write `message` as it is now, where Redis still has it."""
        assert isinstance(broker, RedisBroker)  # noqa: S101 - `make_broker` makes no other
        key = f"{broker.namespace}:{message.queue_name}.msgs"
        try:
            broker.client.eval(
                _REWRITE, 1, key, message.options["redis_message_id"], message.encode()
            )
        except redis.RedisError as error:
            log.warning("message.reason_not_kept", error=str(error)[:500])


class MessageContext(Middleware):
    """Opens the trace, the log context and the stopwatch around each message."""

    def __init__(self) -> None:
        """Keep what is open by thread: an actor runs from start to end on one."""
        self._open = local()

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Enter the message's context."""
        stack = ExitStack()
        # A sender may know the job where the actor's arguments do not name it.
        about = {**message.options, **message.kwargs}
        bound = {name: about[name] for name in _BOUND if name in about}
        stack.enter_context(
            processing(
                message.options.get("trace") or {},
                MessagingSystem.DRAMATIQ,
                message.queue_name,
                message_id=message.message_id,
                sent_ms=message.message_timestamp,
                attempt=message.options.get("retries", 0) + 1,
                **bound,
            )
        )
        stack.enter_context(structlog.contextvars.bound_contextvars(message_id=message.message_id))
        self._open.stack, self._open.started = stack, time.perf_counter()

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: object = None,
        exception: BaseException | None = None,
    ) -> None:
        """Measure, log a failure, and leave the context."""
        outcome = "failed" if exception else "done"
        MESSAGES_PROCESSED.labels(actor=message.actor_name, outcome=outcome).observe(
            time.perf_counter() - self._open.started
        )
        if exception is not None:
            note_error(exception)
            log.warning(
                "message.failed",
                actor=message.actor_name,
                retries=message.options.get("retries", 0),
                exc_info=exception,
            )
        self._open.stack.close()

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        """Leave the context of a message that another middleware skipped."""
        self._open.stack.close()
