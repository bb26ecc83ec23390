"""What detection on demand measures."""

from typing import Final

from prometheus_client import Counter, Gauge

REQUESTS: Final = Counter(
    "headrace_on_demand_requests_total",
    "Requests for detection that ended: ok, or the code of the error",
    ["source", "outcome"],
)
INSIDE: Final = Gauge(
    "headrace_on_demand_requests_in_flight", "Requests for detection that run or wait"
)
