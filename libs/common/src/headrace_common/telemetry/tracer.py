"""The tracer of a process, as OpenTelemetry's standard variables want it.

Without OTEL_EXPORTER_OTLP_ENDPOINT (or OTEL_TRACES_EXPORTER) there are trace ids and nothing else:
no span is recorded, and no library is touched.
"""

import os
from importlib.metadata import entry_points
from typing import Any, Final

import structlog
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from headrace_common.telemetry.exporting import CleaningExporter
from headrace_common.telemetry.sampling import sampler_from_environment
from headrace_common.telemetry.trace import TRACE_FIELDS, context_of

log = structlog.get_logger()

#: Libraries whose calls become spans, where they and their instrumentation are installed.
_INSTRUMENTED: Final = ("botocore", "httpx", "requests")
#: Characters that a value keeps in memory; `CleaningExporter` cuts it further.
_MOST_CHARACTERS: Final = 8_192


#: What the last spans get at the end of the process, where their collector does not answer.
_LAST_MS: Final = 3_000


class BadTracingError(ValueError):
    """OpenTelemetry's variables ask for what there is not."""


def configure_tracing(*, service: str) -> None:
    """Install the tracer of this process.

    Args:
        service: its name, where OTEL_SERVICE_NAME has no other.

    Raises:
        BadTracingError: OTEL_TRACES_EXPORTER or OTEL_TRACES_SAMPLER cannot be done.
    """
    # What else came along ("baggage") is no business of those whom we ask.
    propagate.set_global_textmap(TraceContextTextMapPropagator())
    exporters = _exporters()
    if not exporters:
        trace.set_tracer_provider(_IdsOnly())
        return
    resource = Resource.create({"service.name": service, "service.namespace": "headrace"})
    provider = TracerProvider(
        sampler=sampler_from_environment(),
        resource=resource.merge(OTELResourceDetector().detect()),
        span_limits=SpanLimits(max_attribute_length=_MOST_CHARACTERS),
    )
    for exporter in exporters:
        provider.add_span_processor(_Batches(CleaningExporter(exporter)))
    trace.set_tracer_provider(provider)
    _instrument()


def _exporters() -> list[SpanExporter]:
    """Make what OTEL_TRACES_EXPORTER names: nothing, unless something asks for it."""
    names = os.environ.get("OTEL_TRACES_EXPORTER", "").strip()
    if not names and _has_endpoint():
        names = "otlp"
    wanted = [name.strip() for name in names.split(",") if name.strip() not in {"", "none"}]
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return []
    return [_exporter(name) for name in wanted]


def _has_endpoint() -> bool:
    names = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    return any(os.environ.get(name) for name in names)


def _exporter(name: str) -> SpanExporter:
    if name == "otlp":
        protocol = (
            os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
            or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
            or "http/protobuf"
        )
        name = f"otlp_proto_{protocol.partition('/')[0]}"
    found = entry_points(group="opentelemetry_traces_exporter", name=name)
    if not found:
        raise BadTracingError(f"OTEL_TRACES_EXPORTER: {name} is not installed")
    # Loaded here: it is an optional dependency, and slow to import.
    exporter: SpanExporter = next(iter(found)).load()()
    return exporter


def _instrument() -> None:
    # The names of today's conventions, not those before they were stable.
    os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http")
    for name in _INSTRUMENTED:
        for found in entry_points(group="opentelemetry_instrumentor", name=name):
            try:
                instrumentor = found.load()()
            except ImportError:
                continue  # the library itself is not installed
            options = {"request_hook": _describe_aws_call} if name == "botocore" else {}
            instrumentor.instrument(**options)


def _describe_aws_call(span: Span, service: str, _operation: str, params: dict[str, Any]) -> None:
    """Say which object or queue a call is about."""
    if service == "s3":
        for attribute, name in (("aws.s3.bucket", "Bucket"), ("aws.s3.key", "Key")):
            if isinstance(value := params.get(name), str):
                span.set_attribute(attribute, value)
    elif service == "sqs" and isinstance(entries := params.get("Entries"), list):
        span.set_attribute("messaging.batch.message_count", len(entries))
        _link_to_messages(span, entries)


def _link_to_messages(span: Span, entries: list[dict[str, Any]]) -> None:
    """Link a call for several messages to those of other traces than its own."""
    own = span.get_span_context().trace_id
    for entry in entries:
        carried = entry.get("MessageAttributes", {})
        fields = {name: carried[name].get("StringValue") for name in TRACE_FIELDS & carried.keys()}
        message = trace.get_current_span(context_of(fields)).get_span_context()
        if message.is_valid and message.trace_id != own:
            span.add_link(message)


class _Batches(BatchSpanProcessor):
    """Does not hold up the end of a process, which is killed if it lasts."""

    def shutdown(self) -> None:
        self._batch_processor.shutdown(timeout_millis=_LAST_MS)


class _IdsOnly(trace.TracerProvider):
    """Makes tracers that record nothing."""

    def get_tracer(self, *_: Any, **__: Any) -> trace.Tracer:
        return _IdsOnlyTracer()


class _IdsOnlyTracer(trace.NoOpTracer):
    """Hands on the trace that it finds, as it is, and begins one where there is none."""

    _ids = RandomIdGenerator()

    def start_span(self, name: str, context: Context | None = None, *_: Any, **__: Any) -> Span:
        found = trace.get_current_span(context).get_span_context()
        if found.is_valid:
            return NonRecordingSpan(found)
        ids = self._ids
        begun = SpanContext(ids.generate_trace_id(), ids.generate_span_id(), is_remote=False)
        return NonRecordingSpan(begun)
