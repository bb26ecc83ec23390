"""Putting camera jobs on their stream, and off it: the one place that writes entries."""

import time
from collections.abc import Mapping
from typing import Any

import redis

from headrace_common.contracts.cctv import CANCELLED_SUFFIX, PreprocessEntry
from headrace_common.telemetry.messaging import MessagingSystem, sending
from headrace_common.telemetry.trace import current_trace


def add_entry(client: redis.Redis, stream: str, entry: PreprocessEntry) -> str:
    """Put a job on the stream, and return the id of its entry.

    Args:
        client: may time out when the entry was added; one that is added twice is one job.
        stream: of jobs.
        entry: of a job that is not cancelled, or begins anew.

    Raises:
        redis.RedisError: Redis is away, or refuses it.
    """
    with sending(MessagingSystem.STREAM, stream, entry.trace, job_id=entry.job_id):
        fields: dict[Any, Any] = {**entry.fields(), **current_trace()}
        entry_id: Any = client.xadd(stream, fields)
    return str(entry_id, "ascii")


def cancel_jobs(client: redis.Redis, stream: str, runs: Mapping[str, int]) -> None:
    """Tell the workers that jobs are cancelled: they begin none of them, and stop those that run.

    It is said of a run, and those before it, so that it may come at any time: a job that was begun
    anew meanwhile is not meant.

    Args:
        client: of the stream's server.
        stream: of jobs.
        runs: that the jobs were in when they were cancelled.

    Raises:
        redis.RedisError: Redis is away. The results service's sweep tells it again.
    """
    now_ms = time.time_ns() // 1_000_000
    cancelled: dict[Any, Any] = {job_id: f"{now_ms} {run}" for job_id, run in runs.items()}
    if cancelled:
        client.hset(f"{stream}{CANCELLED_SUFFIX}", mapping=cancelled)
