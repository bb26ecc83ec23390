"""Putting camera jobs on their stream, and off it: the one place that writes entries."""

import time
from collections.abc import Iterable
from typing import Any

import redis

from headrace_common.contracts.cctv import CANCELLED_SUFFIX, PreprocessEntry


def add_entry(client: redis.Redis, stream: str, entry: PreprocessEntry) -> str:
    """Put a job on the stream, and return the id of its entry.

    In the same step it is taken off those that were cancelled: workers leave alone what is there.

    Args:
        client: may time out when the entry was added; one that is added twice is one job.
        stream: of jobs.
        entry: of a job that is not cancelled, or begins anew.

    Raises:
        redis.RedisError: Redis is away, or refuses it.
    """
    fields: dict[Any, Any] = dict(entry.fields())
    with client.pipeline(transaction=True) as step:
        step.hdel(f"{stream}{CANCELLED_SUFFIX}", entry.job_id)
        step.xadd(stream, fields)
        entry_id: bytes = step.execute()[1]
    return entry_id.decode()


def cancel_jobs(client: redis.Redis, stream: str, job_ids: Iterable[str]) -> None:
    """Tell the workers that jobs are cancelled: they begin none of them, and stop those that run.

    To be called while their rows are locked, or are known not to be begun anew: what is added
    by `add_entry` afterwards is not cancelled.

    Raises:
        redis.RedisError: Redis is away. The results service's sweep tells it again.
    """
    now_ms = time.time_ns() // 1_000_000
    cancelled: dict[Any, Any] = dict.fromkeys(job_ids, now_ms)
    if cancelled:
        client.hset(f"{stream}{CANCELLED_SUFFIX}", mapping=cancelled)
