"""Which spans are recorded: what OTEL_TRACES_SAMPLER says, less what nobody looks for."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    DEFAULT_OFF,
    DEFAULT_ON,
    Decision,
    ParentBasedTraceIdRatio,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

#: Asked every few seconds by probes and scrapers.
_PROBED: Final = ("/health", "/metrics")

#: Requests a second that are recorded in a process, beyond the share that was asked for, because
#: their sender says so; and how many at once. Webhooks of the traces that were chosen by ourselves
#: are among them: a process answers some hundred requests a second.
_ASKED_PER_SECOND: Final = 100.0
_ASKED_AT_ONCE: Final = 1_000.0

_SAMPLERS: Final[dict[str, Callable[[float], Sampler]]] = {
    "always_on": lambda _: ALWAYS_ON,
    "always_off": lambda _: ALWAYS_OFF,
    "parentbased_always_on": lambda _: DEFAULT_ON,
    "parentbased_always_off": lambda _: DEFAULT_OFF,
    "traceidratio": TraceIdRatioBased,
    "parentbased_traceidratio": ParentBasedTraceIdRatio,
}


def sampler_from_environment() -> Sampler:
    """Return what OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG ask for.

    Raises:
        ValueError: there is no such sampler, or its share makes no sense.
    """
    name = os.environ.get("OTEL_TRACES_SAMPLER") or "parentbased_always_on"
    make = _SAMPLERS.get(name.strip().lower())
    if make is None:
        raise ValueError(f"OTEL_TRACES_SAMPLER: {name!r} is none of {', '.join(_SAMPLERS)}")
    share = float(os.environ.get("OTEL_TRACES_SAMPLER_ARG") or 1.0)
    sampler = make(share)
    if share < 1 and isinstance(sampler, ParentBasedTraceIdRatio):
        sampler = _WithinReason(sampler)
    return _WorthKeeping(sampler)


class _WorthKeeping(Sampler):
    """Leaves out probes, and calls that belong to no trace: each poll of a queue, each look round.

    They come every few seconds of every process, and would be traces of one span.
    """

    def __init__(self, others: Sampler) -> None:
        self._others = others

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        if self._is_idle(parent_context, kind, attributes):
            return SamplingResult(Decision.DROP)
        return self._others.should_sample(
            parent_context, trace_id, name, kind, attributes, links, trace_state
        )

    def get_description(self) -> str:
        return f"WorthKeeping{{{self._others.get_description()}}}"

    @staticmethod
    def _is_idle(
        parent_context: Context | None, kind: SpanKind | None, attributes: Attributes
    ) -> bool:
        if trace.get_current_span(parent_context).get_span_context().is_valid:
            return False
        if kind is SpanKind.SERVER:
            return str((attributes or {}).get("url.path", "")).startswith(_PROBED)
        return kind is SpanKind.CLIENT


class _WithinReason(Sampler):
    """Records so many requests that are to be recorded because their sender says so.

    Anybody may say so, and who asked for a tenth of the traces does not expect all of a flood.
    """

    def __init__(self, others: Sampler) -> None:
        self._others = others
        self._lock = threading.Lock()
        self._left = _ASKED_AT_ONCE
        self._at = time.monotonic()

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        parent = trace.get_current_span(parent_context).get_span_context()
        is_asked = kind is SpanKind.SERVER and parent.is_remote and parent.trace_flags.sampled
        if is_asked and not self._take():
            return SamplingResult(Decision.DROP, trace_state=parent.trace_state)
        return self._others.should_sample(
            parent_context, trace_id, name, kind, attributes, links, trace_state
        )

    def get_description(self) -> str:
        return f"WithinReason{{{self._others.get_description()}}}"

    def _take(self) -> bool:
        with self._lock:
            now = time.monotonic()
            gained = (now - self._at) * _ASKED_PER_SECOND
            self._left, self._at = min(self._left + gained, _ASKED_AT_ONCE), now
            if self._left < 1:
                return False
            self._left -= 1
            return True
