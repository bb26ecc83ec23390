"""Counting the messages that lie in SQS, in Dramatiq's queues, and in the streams."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import redis

from headrace_chaos.endpoints import Endpoints
from headrace_common.contracts.cctv import (
    DELAYED_SUFFIX,
    REPORTS_SUFFIX,
    RESULTS_GROUP,
)
from headrace_local.clients import local_sqs_client

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

#: A run has far fewer.
_MOST_ENTRIES: Final = 100_000
_COUNTS: Final = {
    "ApproximateNumberOfMessages": "waiting",
    "ApproximateNumberOfMessagesNotVisible": "in flight",
    "ApproximateNumberOfMessagesDelayed": "delayed",
}


def redis_of(endpoints: Endpoints) -> "redis.Redis":
    """Connect to Redis."""
    client: redis.Redis = redis.Redis.from_url(
        endpoints.redis_url, password=endpoints.redis_password, socket_timeout=10
    )
    return client


def sqs_of(endpoints: Endpoints) -> "SQSClient":
    """Make a client of SQS."""
    return local_sqs_client(endpoints.settings["SQS_ENDPOINT_URL"], **endpoints.aws)


def sqs_messages(client: "SQSClient", urls: Sequence[str]) -> dict[str, int]:
    """Return how many messages queues and their dead-letter queues have; none for empty ones."""
    found: dict[str, int] = {}
    for url in [each for queue in urls for each in (queue, f"{queue}-dlq")]:
        attributes: Any = client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
        for name, word in _COUNTS.items():
            count = int(attributes["Attributes"].get(name, 0))
            found[f"SQS {url.rpartition('/')[2]}, {word}"] = count
    return {place: count for place, count in found.items() if count}


def redis_messages(client: "redis.Redis", namespace: str, stream: str) -> dict[str, int]:
    """Return how many messages lie in Redis, by place; none for empty places."""
    found = {**dict(_dramatiq(client, namespace)), **dict(_streams(client, stream))}
    return {place: count for place, count in found.items() if count}


def _dramatiq(client: Any, namespace: str) -> Iterator[tuple[str, int]]:
    """Count what Dramatiq holds: a message is in `.msgs` from its sending to its end."""
    for key in client.scan_iter(f"{namespace}:*.msgs"):
        name = key.decode()
        yield name, client.hlen(name)


def _streams(client: Any, stream: str) -> Iterator[tuple[str, int]]:
    yield f"{stream}{DELAYED_SUFFIX}", client.zcard(f"{stream}{DELAYED_SUFFIX}")
    for name in (stream, f"{stream}{REPORTS_SUFFIX}"):
        if not client.exists(name):
            continue
        for group in client.xinfo_groups(name):
            label = f"{name}, group {group['name'].decode()}"
            yield f"{label}, pending", group["pending"]
            yield f"{label}, undelivered", _after(client, name, group["last-delivered-id"])


def _after(client: Any, stream: str, entry_id: bytes) -> int:
    """Count what a group was not handed yet; `lag` is wrong once entries were trimmed."""
    return len(client.xrange(stream, b"(" + entry_id, "+", count=_MOST_ENTRIES))


def only_in_redis(client: Any, stream: str) -> list[str]:
    """Empty Redis, and return the ids of the entries that nobody else had by then.

    Whoever adds an entry is promised nothing but Redis's own keeping until the results service
    has made a row of it, moments later. Looking and emptying are one step, so that this says
    exactly which entries went.
    """
    with client.pipeline(transaction=True) as pipeline:
        pipeline.xinfo_groups(stream)
        pipeline.xrange(stream, "-", "+", count=_MOST_ENTRIES)
        pipeline.xpending_range(stream, RESULTS_GROUP, "-", "+", _MOST_ENTRIES)
        pipeline.flushall()
        groups, entries, pending, _ = pipeline.execute(raise_on_error=False)
    if isinstance(groups, redis.RedisError) or isinstance(entries, redis.RedisError):
        return []
    last = next(
        (
            _order(each["last-delivered-id"])
            for each in groups
            if each["name"].decode() == RESULTS_GROUP
        ),
        (-1, 0),
    )
    ids = [entry_id for entry_id, _ in entries if _order(entry_id) > last]
    if not isinstance(pending, redis.RedisError):
        ids += [each["message_id"] for each in pending]
    return [entry_id.decode() for entry_id in ids]


def _order(entry_id: bytes) -> tuple[int, int]:
    milliseconds, _, sequence = entry_id.decode().partition("-")
    return int(milliseconds), int(sequence or 0)
