"""Letters of Dramatiq: messages whose retries ran out, or that no actor takes.

Dramatiq keeps them in Redis for a week: `{namespace}:{queue}.XQ` is a sorted set of their ids by
the time of death in ms, `{namespace}:{queue}.XQ.msgs` a hash with the messages.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import redis
import structlog

from headrace_common.contracts.lanes import Lane
from headrace_common.contracts.messages import APPLY_REPORT_QUEUE, ActorName, dispatch_actor
from headrace_common.contracts.schedules import (
    DISPATCHER_CHORES_QUEUE,
    FIRINGS_QUEUE,
    RESULTS_CHORES_QUEUE,
    STORAGE_CHORES_QUEUE,
    target_contracts,
)
from headrace_dispatcher.dead.keeping import Keep
from headrace_dispatcher.dead.letter import (
    Kind,
    NewLetter,
    Source,
    pack_text,
    read_object,
    storable_id,
)

log = structlog.get_logger()

#: Letters of one transaction; a message may be large.
_BATCH: Final = 100
_DISPATCHERS: Final = {dispatch_actor(lane).value for lane in Lane}
QUEUES: Final = (
    *(lane.queue_name for lane in Lane),
    APPLY_REPORT_QUEUE,
    FIRINGS_QUEUE,
    DISPATCHER_CHORES_QUEUE,
    RESULTS_CHORES_QUEUE,
    STORAGE_CHORES_QUEUE,
)


class DramatiqLetters:
    """Moves the dead messages of our queues."""

    source = Source.DRAMATIQ

    def __init__(self, client: redis.Redis, keep: Keep, *, namespace: str) -> None:
        """Look with `client`, below the keys of `namespace`."""
        self._client = client
        self._keep = keep
        self._namespace = namespace

    def collect(self) -> None:
        """Move all that are there.

        Raises:
            redis.RedisError: Redis is away.
        """
        for queue in QUEUES:
            while self._move(queue) == _BATCH:
                pass

    def remove(self, queue: str, ids: Sequence[bytes]) -> None:
        """Remove letters that are kept. Doing it again changes nothing."""
        dead = f"{self._namespace}:{queue}.XQ"
        with self._client.pipeline(transaction=True) as step:
            step.zrem(dead, *ids)
            step.hdel(f"{dead}.msgs", *(ident.decode() for ident in ids))
            step.execute()

    def _move(self, queue: str) -> int:
        dead = f"{self._namespace}:{queue}.XQ"
        found: Any = self._client.zrange(dead, 0, _BATCH - 1, withscores=True)
        if not found:
            return 0
        ids = [ident for ident, _ in found]
        messages: Any = self._client.hmget(f"{dead}.msgs", ids)
        letters = [
            letter_of(queue, ident.decode(), data, died_ms=died_ms)
            for (ident, died_ms), data in zip(found, messages, strict=True)
            if data is not None
        ]
        self._keep(letters)
        if len(letters) < len(ids):
            log.warning("dead.messages_missing", queue=queue, count=len(ids) - len(letters))
        self.remove(queue, ids)
        return len(ids)


def letter_of(queue: str, message_id: str, data: bytes, *, died_ms: float) -> NewLetter:
    """Read a dead message."""
    message = read_object(data)
    options, kwargs = _dict(message.get("options")), _dict(message.get("kwargs"))
    code, reason = _why(message, options)
    retries = options.get("retries")
    return NewLetter(
        source=Source.DRAMATIQ,
        queue=queue,
        source_id=message_id,
        kind=_kind(message),
        code=code,
        reason=reason,
        payload={"message": pack_text(data)},
        died_at=datetime.fromtimestamp(died_ms / 1000, UTC),
        job_id=storable_id(kwargs.get("job_id")),
        attempts=retries if isinstance(retries, int) else None,
    )


def last_error(traceback: str) -> tuple[str, str] | None:
    """Return the class and the text of the exception that a traceback ends with."""
    lines = traceback.rstrip().splitlines()
    frames = [index for index, line in enumerate(lines) if line.startswith('  File "')]
    if not frames:
        return None
    # Below the last frame: its source and carets, indented, then the exception.
    rest = frames[-1] + 1
    while rest < len(lines) and lines[rest].startswith("    "):
        rest += 1
    name, _, text = "\n".join(lines[rest:]).partition(":")
    return name.rpartition(".")[2].strip() or "error", text.strip() or name


def _why(message: dict[str, Any], options: dict[str, Any]) -> tuple[str, str]:
    actor = message.get("actor_name")
    if not isinstance(actor, str):
        return "unreadable", "it is no Dramatiq message"
    if actor not in _actors():
        return "unknown_actor", f"no actor is called {actor[:200]!r}"
    found = last_error(str(options.get("traceback") or ""))
    return found or ("retries_exhausted", "its retries ran out; it does not say of what")


def _actors() -> set[str]:
    of_targets = {contract.actor for contract in target_contracts().values()}
    return of_targets | {known.value for known in ActorName}


def _kind(message: dict[str, Any]) -> Kind:
    actor = message.get("actor_name")
    if actor in _DISPATCHERS:
        return Kind.DISPATCH
    return Kind.APPLY_REPORT if actor == ActorName.APPLY_REPORT else Kind.MESSAGE


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
