"""What the stages of a job measure."""

from typing import Final

from prometheus_client import Counter, Histogram

STAGE_SECONDS: Final = Histogram(
    "headrace_preprocessor_stage_duration_seconds",
    "Time that a stage of a job took, when it came to its end",
    ["stage"],
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300, 600),
)
QUALITY: Final = Histogram(
    "headrace_preprocessor_background_quality",
    "Quality of the backgrounds, 0 to 1",
    buckets=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1),
)
CLIP_FAULTS: Final = Counter(
    "headrace_preprocessor_clip_faults_total",
    "Faults that clips survived, by code",
    ["code"],
)
