"""Logs, traces and metrics, the same for every process."""

from headrace_common.telemetry.logs import configure_logging
from headrace_common.telemetry.trace import (
    configure_tracing,
    continue_trace,
    current_trace,
    trace_id,
)

__all__ = ["configure_logging", "configure_tracing", "continue_trace", "current_trace", "trace_id"]
