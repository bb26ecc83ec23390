"""Logs, traces and metrics, the same for every process."""

from headrace_common.telemetry.logs import configure_logging
from headrace_common.telemetry.trace import (
    continue_trace,
    current_trace,
    trace_id,
)
from headrace_common.telemetry.tracer import configure_tracing

__all__ = ["configure_logging", "configure_tracing", "continue_trace", "current_trace", "trace_id"]
