"""What the memory guard measures."""

from typing import Final

from prometheus_client import Counter, Gauge

MEMORY_FREE: Final = Gauge(
    "headrace_preprocessor_memory_free_bytes", "Memory that jobs may use, by where", ["probe"]
)
MEMORY_TOTAL: Final = Gauge("headrace_preprocessor_memory_total_bytes", "All of it", ["probe"])
MEMORY_PROMISED: Final = Gauge(
    "headrace_preprocessor_memory_promised_bytes", "What jobs that run will take yet, as estimated"
)
ESTIMATE: Final = Gauge(
    "headrace_preprocessor_memory_estimate_bytes", "What one job needs, as learned", ["kind"]
)
HOLDING: Final = Gauge(
    "headrace_preprocessor_memory_holding", "Whether jobs wait for memory (1) or not (0)"
)
HOLDS: Final = Counter("headrace_preprocessor_memory_holds_total", "Times that jobs began to wait")
OUT_OF_MEMORY: Final = Counter(
    "headrace_preprocessor_out_of_memory_total", "Times that memory ran out within a job"
)
