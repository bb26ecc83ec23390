"""What is measured of the calls to S3 and SQS: how many, how long, how often again.

SQS bills by the call, so that the rate of these is what an installation costs there.
"""

import time
from typing import Any, Final

from prometheus_client import Counter, Histogram

#: Seconds. A long poll of SQS takes up to twenty by design.
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 21, 30, 60)
#: Where a call keeps when it began; botocore hands the same dictionary to all of its events.
_STARTED: Final = "headrace_started"

_SECONDS: Final = Histogram(
    "headrace_aws_request_duration_seconds",
    "Time of a call to S3 or SQS with botocore's own tries, until the head of the answer; a "
    "long poll (ReceiveMessage) takes up to 20 s. Outcome: ok, client_error (4xx), server_error "
    "(5xx) or unreachable",
    ["api", "operation", "outcome"],
    buckets=_BUCKETS,
)
_RETRIES: Final = Counter(
    "headrace_aws_retries_total",
    "Times that botocore made a call to S3 or SQS again",
    ["api", "operation"],
)


def measure(client: Any) -> None:
    """Measure every call of a boto3 client. URLs that are only signed are no calls."""
    api = client.meta.service_model.service_name  # s3 or sqs, as its events call it too

    def before(*, context: dict[str, Any], **_: Any) -> None:
        context[_STARTED] = time.perf_counter()

    def answered(
        *, http_response: Any, parsed: dict[str, Any], model: Any, context: dict[str, Any], **_: Any
    ) -> None:
        note(model.name, _outcome(http_response.status_code), context)
        again = parsed.get("ResponseMetadata", {}).get("RetryAttempts", 0)
        if again:
            _RETRIES.labels(api=api, operation=model.name).inc(again)

    def silent(*, model: Any = None, context: dict[str, Any], event_name: str, **_: Any) -> None:
        name = model.name if model is not None else event_name.rpartition(".")[2]
        note(name, "unreachable", context)

    def note(operation: str, outcome: str, context: dict[str, Any]) -> None:
        started = context.pop(_STARTED, None)
        if started is not None:  # else it was refused before it began
            _SECONDS.labels(api=api, operation=operation, outcome=outcome).observe(
                time.perf_counter() - started
            )

    client.meta.events.register(f"before-call.{api}", before)
    client.meta.events.register(f"after-call.{api}", answered)
    client.meta.events.register(f"after-call-error.{api}", silent)


def _outcome(status: int) -> str:
    if status < 400:
        return "ok"
    return "client_error" if status < 500 else "server_error"
