"""What leaves the process with a span: no secret, and nothing long, whoever wrote it."""

import re
from collections.abc import Sequence
from typing import Final

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Link, Status
from opentelemetry.util.types import Attributes, AttributeValue

from headrace_common.telemetry.secrets import REDACTED, without_url_values

#: Headers and the like that hold a secret whatever they hold: an operator can ask for headers.
_SECRET_NAME: Final = re.compile(
    r"(?i)(^|[._-])(authorization|password|secrets?|api[_-]?key|cookie|signature|token)$"
)
_LONGEST: Final = 2_048
#: Without one of these no text has what `secrets` knows, and most have none.
_SIGNS: Final = ("=", "://", "hr_", "whsec_")


class CleaningExporter(SpanExporter):
    """Hands spans on, cleaned; on the exporting thread, so that no request pays for it."""

    def __init__(self, inner: SpanExporter) -> None:
        """Hand on to `inner`."""
        self._inner = inner

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export `spans`."""
        return self._inner.export([_clean(span) for span in spans])

    def shutdown(self) -> None:
        """Export nothing more."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait for what is being exported."""
        return self._inner.force_flush(timeout_millis)


def _clean(span: ReadableSpan) -> ReadableSpan:
    status = span.status
    return ReadableSpan(
        name=_text(span.name),
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=_attributes(span.attributes),
        events=[
            Event(event.name, _attributes(event.attributes), event.timestamp)
            for event in span.events
        ],
        links=[Link(link.context, _attributes(link.attributes)) for link in span.links],
        kind=span.kind,
        status=Status(status.status_code, status.description and _text(status.description)),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _attributes(attributes: Attributes) -> Attributes:
    return {name: _value(name, value) for name, value in (attributes or {}).items()}


def _value(name: str, value: AttributeValue) -> AttributeValue:
    if _SECRET_NAME.search(name):
        return REDACTED
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Sequence) and value and isinstance(value[0], str):
        return [_text(str(item)) for item in value]
    return value


def _text(text: str) -> str:
    """Clean, then cut: a secret that is cut in two would not be known for one."""
    if any(sign in text for sign in _SIGNS):
        text = without_url_values(text)
    return text[:_LONGEST]
