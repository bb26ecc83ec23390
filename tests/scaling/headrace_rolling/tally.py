"""How many requests were sent, by kind, and which of them failed."""

import re
import threading
from collections import Counter
from typing import Final

_KINDS: Final = tuple(
    (method, re.compile(path), kind)
    for method, path, kind in (
        ("POST", "/tokens/[^/]+/upload-audio", "upload"),
        ("POST", "/tokens/[^/]+/direct-uploads", "direct upload"),
        ("POST", "/direct-uploads/[^/]+(/.*)?", "direct upload"),
        ("DELETE", "/direct-uploads/[^/]+", "direct upload"),
        ("POST", "/cctv/[^/]+/preprocess", "camera job"),
        ("POST", "/webhooks/.*", "webhook, sent again"),
        ("DELETE", "/jobs/[^/]+/cancel", "cancel"),
        ("POST", "/jobs/[^/]+/retry", "do anew"),
        ("GET", "/jobs/[^/]+/events", "event stream"),
        ("GET", "/jobs/[^/]+(/reports)?", "job"),
        ("GET", "/jobs", "list of jobs"),
        ("GET", "/queue/status", "queues"),
        ("GET", "/(state|schedules)", "dispatcher's state"),
        ("GET", "/worker/status", "camera worker's state"),
        ("(POST|PUT)", "/tokens.*", "token"),
    )
)
#: Answers that a client has no part in: it would have to send the same again.
_NOT_THE_CLIENTS: Final = frozenset({401, 403, 404, 408, 425, 429})


def kind_of(method: str, target: str) -> str:
    """Return what a request is called in the account; `target` may have a query."""
    path = target.partition("?")[0]
    for methods, pattern, kind in _KINDS:
        if re.fullmatch(methods, method) and pattern.fullmatch(path):
            return kind
    return f"{method} {path}"


def is_failure(status: int) -> bool:
    """Whether an answer with this status fails the request."""
    return status >= 500 or status in _NOT_THE_CLIENTS


class Tally:
    """Counts; from any thread."""

    def __init__(self) -> None:
        """Begin at nothing."""
        self._lock = threading.Lock()
        self._sent: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()

    def sent(self, kind: str) -> None:
        """Note that a request was sent."""
        with self._lock:
            self._sent[kind] += 1

    def failed(self, kind: str, why: str) -> None:
        """Note that it failed."""
        with self._lock:
            self._failed[kind] += 1
            self._reasons[f"{kind}: {why}"] += 1

    @property
    def rows(self) -> list[tuple[str, int, int]]:
        """Kind, sent and failed, in the order of their names."""
        with self._lock:
            return [(kind, count, self._failed[kind]) for kind, count in sorted(self._sent.items())]

    @property
    def failures(self) -> dict[str, int]:
        """Why requests failed, and how often."""
        with self._lock:
            return dict(self._reasons)
