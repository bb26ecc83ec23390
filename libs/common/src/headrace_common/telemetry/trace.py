"""W3C trace context: one trace a job, through HTTP, Dramatiq, SQS and webhooks.

Spans are always made, so that logs and messages carry a trace id; they are exported only
where the standard variable OTEL_EXPORTER_OTLP_ENDPOINT names a collector.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import structlog
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind

from headrace_common.telemetry.secrets import without_secrets

#: The attribute of OpenTelemetry's conventions that FastAPI fills.
_QUERY: Final = "url.query"

_tracer = trace.get_tracer("headrace")


def configure_tracing(*, service: str) -> None:
    """Install the tracer of this process."""
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(_RedactQueries())
    if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        # Imported here: it is an optional dependency, and slow to import.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )

        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


class _RedactQueries(SpanProcessor):
    """Keeps the token of a callback URL out of what is exported."""

    def on_start(self, span: SdkSpan, parent_context: Context | None = None) -> None:
        query = (span.attributes or {}).get(_QUERY)
        if isinstance(query, str):
            span.set_attribute(_QUERY, without_secrets(query))


def current_trace() -> dict[str, str]:
    """Return the current context as W3C fields (`traceparent`, `tracestate`); empty if none."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return {key: carrier[key] for key in ("traceparent", "tracestate") if key in carrier}


def trace_id() -> str | None:
    """Return the current trace id as 32 hexadecimal digits."""
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else None


@contextmanager
def continue_trace(
    fields: Mapping[str, Any], name: str, *, kind: SpanKind = SpanKind.CONSUMER, **bound: Any
) -> Iterator[Span]:
    """Open a span that continues the trace that `fields` carry, or a new one.

    Args:
        fields: W3C fields as `current_trace` returned them elsewhere.
        name: of the span.
        kind: of the span.
        bound: context that every log inside carries, and the span as attributes.
    """
    parent = propagate.extract({key: str(value) for key, value in fields.items()})
    attributes = {f"headrace.{key}": str(value) for key, value in bound.items()}
    with (
        _tracer.start_as_current_span(
            name, context=parent, kind=kind, attributes=attributes
        ) as span,
        structlog.contextvars.bound_contextvars(**bound),
    ):
        yield span
