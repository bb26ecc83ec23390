"""What detection measures."""

from collections.abc import Iterable
from typing import Final, Protocol

from prometheus_client import Counter, Histogram

from headrace_gpu_preprocessor.detection.severity import Severity

DETECTION_SECONDS: Final = Histogram(
    "headrace_detection_duration_seconds",
    "Time to find the damage in one picture",
    buckets=(0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30),
)
#: The classes are those of the one model of the process, at most a hundred.
DAMAGES: Final = Counter(
    "headrace_damages_total", "Damages found, by class and severity", ["damage_class", "severity"]
)


class _Found(Protocol):
    @property
    def label(self) -> str: ...
    @property
    def severity(self) -> Severity: ...


def observe(damages: Iterable[_Found], *, seconds: float) -> None:
    """Count one picture."""
    DETECTION_SECONDS.observe(seconds)
    for damage in damages:
        DAMAGES.labels(damage_class=damage.label, severity=damage.severity.value).inc()
