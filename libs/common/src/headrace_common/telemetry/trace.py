"""W3C trace context: one trace a job, through HTTP, Dramatiq, SQS, streams and webhooks.

There is always a trace id, for logs and messages. Spans are recorded and exported only where
OpenTelemetry's variables say so (see `tracer`).
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

import structlog
from opentelemetry import context as contexts
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import Link, Span, SpanKind, StatusCode
from opentelemetry.util.types import AttributeValue

#: What messages carry: names of W3C trace context.
TRACE_FIELDS: Final = frozenset({"traceparent", "tracestate"})

_tracer = trace.get_tracer("headrace")
#: Shared by all threads that work on one request, where `gathering_facts` surrounds it.
_facts: Final[ContextVar[dict[str, str] | None]] = ContextVar("headrace_facts", default=None)


def is_recording() -> bool:
    """Whether this process records spans at all; where it does not, nothing is made for them."""
    return isinstance(trace.get_tracer_provider(), TracerProvider)


def current_trace() -> dict[str, str]:
    """Return the current context as W3C fields (`traceparent`, `tracestate`); empty if none."""
    return _fields(None)


def trace_of(span: Span) -> dict[str, str]:
    """Return the context of `span` as W3C fields."""
    return _fields(trace.set_span_in_context(span))


def trace_id() -> str | None:
    """Return the current trace id as 32 hexadecimal digits."""
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else None


def trace_of_job(job_id: str) -> dict[str, str]:
    """Return the W3C fields of a job whose producer told of no trace.

    They are the same for all who ask, so that what several do for the job is one trace. Whether it
    is recorded is decided as for a trace that begins here.
    """
    digest = hashlib.sha256(job_id.encode()).digest()
    # Neither may be zero.
    trace_id = int.from_bytes(digest[:16]) or 1
    span_id = int.from_bytes(digest[16:24]) or 1
    flags = trace.TraceFlags(
        trace.TraceFlags.SAMPLED if _would_sample(trace_id) else trace.TraceFlags.DEFAULT
    )
    begun = trace.SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags)
    return trace_of(trace.NonRecordingSpan(begun))


def _would_sample(trace_id: int) -> bool:
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        return False
    decided = provider.sampler.should_sample(Context(), trace_id, "job", SpanKind.CONSUMER)
    return decided.decision is Decision.RECORD_AND_SAMPLE


def trace_id_of(fields: Mapping[str, str]) -> str | None:
    """Return the trace id of W3C fields: version-traceid-parentid-flags."""
    parts = fields.get("traceparent", "").split("-")
    return parts[1] if len(parts) == 4 else None


@contextmanager
def continue_trace(
    fields: Mapping[str, Any],
    name: str,
    *,
    kind: SpanKind = SpanKind.CONSUMER,
    attributes: Mapping[str, AttributeValue] | None = None,
    **bound: Any,
) -> Iterator[Span]:
    """Open a span that continues the trace that `fields` carry, or a new one.

    A span of another trace that is open here is linked to.

    Args:
        fields: W3C fields as `current_trace` returned them elsewhere.
        name: of the span.
        kind: of the span.
        attributes: of the span.
        bound: context that every log inside carries, and the span as attributes.
    """
    parent, recording = context_of(fields), is_recording()
    with (
        _tracer.start_as_current_span(
            name,
            context=parent,
            kind=kind,
            attributes={**(attributes or {}), **own_attributes(bound)} if recording else None,
            links=_links_from(parent) if recording else None,
        ) as span,
        structlog.contextvars.bound_contextvars(**bound),
    ):
        yield span


@contextmanager
def inside_trace(fields: Mapping[str, Any]) -> Iterator[None]:
    """Make spans within children of what `fields` carry, without a span for it."""
    token = contexts.attach(context_of(fields))
    try:
        yield
    finally:
        contexts.detach(token)


@contextmanager
def step(name: str, **about: Any) -> Iterator[Span]:
    """Open a span for a part of what is being done here."""
    with _tracer.start_as_current_span(name, attributes=own_attributes(about)) as span:
        yield span


@contextmanager
def gathering_facts() -> Iterator[dict[str, str]]:
    """Gather what is noted within, on whichever thread, for who speaks of all of it at its end.

    Context variables that a thread binds are lost with it.
    """
    facts: dict[str, str] = {}
    token = _facts.set(facts)
    try:
        yield facts
    finally:
        _facts.reset(token)


def note_job(job_id: str) -> None:
    """Say whose job the current span is about, and the request that is being served."""
    trace.get_current_span().set_attribute("headrace.job_id", job_id)
    if (facts := _facts.get()) is not None:
        facts["job_id"] = job_id


def note_status(job_id: str, status: str) -> None:
    """Note a change of a job's status in the current span."""
    trace.get_current_span().add_event(
        "headrace.job.status", {"headrace.job_id": job_id, "headrace.job.status": status}
    )


def fail_span(reason: str) -> None:
    """Say that what the current span is about did not succeed, though nothing was raised."""
    trace.get_current_span().set_status(StatusCode.ERROR, reason)


def note_error(error: BaseException, span: Span | None = None) -> None:
    """Note an error that nobody raises out of the span, by default the current one."""
    failed = span or trace.get_current_span()
    if failed.is_recording():
        failed.record_exception(error)
        failed.set_status(StatusCode.ERROR, f"{type(error).__name__}: {error}")


def context_of(fields: Mapping[str, Any]) -> Context:
    """Return the context that W3C fields carry; that of no span where they are none."""
    if "traceparent" not in fields:
        return Context()
    return propagate.extract({key: str(value) for key, value in fields.items()}, Context())


def own_attributes(about: Mapping[str, Any]) -> dict[str, AttributeValue]:
    """Return facts as attributes of a span, each with our prefix."""
    return {
        f"headrace.{key}": value if isinstance(value, int | float) else str(value)
        for key, value in about.items()
        if value is not None
    }


def _fields(context: Context | None) -> dict[str, str]:
    carrier: dict[str, str] = {}
    propagate.inject(carrier, context)
    return {key: carrier[key] for key in sorted(TRACE_FIELDS & carrier.keys())}


def _links_from(parent: Context) -> list[Link]:
    """Return a link to the span that is open here, where that is of another trace."""
    here = trace.get_current_span().get_span_context()
    there = trace.get_current_span(parent).get_span_context()
    return [Link(here)] if here.is_valid and here.trace_id != there.trace_id else []
