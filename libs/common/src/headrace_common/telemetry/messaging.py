"""Spans of messages, named and described as OpenTelemetry's conventions have it.

`send DESTINATION` (producer) is what a message carries along, `receive DESTINATION` (client) lasts
from then until somebody had it in hand, `process DESTINATION` (consumer) is the work on it.
"""

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from enum import StrEnum
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind
from opentelemetry.util.types import AttributeValue

from headrace_common.telemetry.trace import (
    context_of,
    continue_trace,
    inside_trace,
    is_recording,
    note_error,
    own_attributes,
)

_tracer = trace.get_tracer("headrace")


class MessagingSystem(StrEnum):
    """Where messages wait, as `messaging.system`."""

    SQS = "aws_sqs"
    DRAMATIQ = "dramatiq"
    STREAM = "redis"
    HTTP = "http"


def queue_of(url: str) -> str:
    """Return the name of an SQS queue."""
    return url.rstrip("/").rpartition("/")[2]


@contextmanager
def sending(
    system: MessagingSystem,
    destination: str,
    fields: Mapping[str, Any] | None = None,
    *,
    message_id: str | None = None,
    **about: Any,
) -> Iterator[Span]:
    """Open the span of a message that is sent within; `current_trace` is what goes along.

    Args:
        system: where it waits.
        destination: name of the queue or stream.
        fields: W3C fields that the message has already; what is open here where there are none.
        message_id: its id, if it has one by now.
        about: more of the span's attributes.
    """
    if not is_recording():
        with inside_trace(fields) if fields else nullcontext():
            yield trace.get_current_span()
        return
    attributes = _attributes(system, destination, "send", message_id)
    if fields:
        with continue_trace(
            fields,
            f"send {destination}",
            kind=SpanKind.PRODUCER,
            attributes=attributes | own_attributes(about),
        ) as span:
            yield span
    else:
        with _tracer.start_as_current_span(
            f"send {destination}",
            kind=SpanKind.PRODUCER,
            attributes=attributes | own_attributes(about),
        ) as span:
            yield span


def begin_send(system: MessagingSystem, destination: str, **about: Any) -> Span:
    """Begin the span of a message that is sent on another thread; `end_with` ends it."""
    return _tracer.start_span(
        f"send {destination}",
        kind=SpanKind.PRODUCER,
        attributes=_attributes(system, destination, "send", None) | own_attributes(about),
    )


def end_with(span: Span, future: "Future[Any]") -> None:
    """End a span as soon as a future is done, as that is."""

    def end(done: "Future[Any]") -> None:
        if not done.cancelled() and (error := done.exception()) is not None:
            note_error(error, span)
        span.end()

    future.add_done_callback(end)


@contextmanager
def processing(
    fields: Mapping[str, Any],
    system: MessagingSystem,
    destination: str,
    *,
    message_id: str | None = None,
    sent_ms: int | None = None,
    group: str | None = None,
    **bound: Any,
) -> Iterator[Span]:
    """Open the span of the work on a message; as `continue_trace`, which see.

    Args:
        fields: W3C fields that came with it.
        system: where it waited.
        destination: name of the queue or stream.
        message_id: its id there.
        sent_ms: when it began to wait, in milliseconds since 1970.
        group: of consumers that the message was for.
        bound: context that every log inside carries, and the span as attributes.
    """
    if not is_recording():
        with continue_trace(fields, destination, **bound) as span:
            yield span
        return
    more: dict[str, AttributeValue] = {"messaging.consumer.group.name": group} if group else {}
    if sent_ms is not None and fields:
        now = time.time_ns()
        _tracer.start_span(
            f"receive {destination}",
            context=context_of(fields),
            kind=SpanKind.CLIENT,
            attributes=_attributes(system, destination, "receive", message_id) | more,
            start_time=min(sent_ms * 1_000_000, now),
        ).end(now)
    with continue_trace(
        fields,
        f"process {destination}",
        kind=SpanKind.CONSUMER,
        attributes=_attributes(system, destination, "process", message_id) | more,
        **bound,
    ) as span:
        yield span


def _attributes(
    system: MessagingSystem, destination: str, operation: str, message_id: str | None
) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        "messaging.system": system.value,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": destination,
    }
    if message_id is not None:
        attributes["messaging.message.id"] = message_id
    return attributes
