"""Redis or Valkey: clients whose time-outs fit what they are used for."""

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from headrace_common.settings import RedisSettings

#: A healthy server on the same network answers in milliseconds.
_TIMEOUT_SECONDS = 2.0


def redis_client(settings: RedisSettings) -> redis.Redis:
    """Make a client for short commands: it gives up after two seconds and does not try again."""
    client: redis.Redis = redis.Redis.from_url(
        settings.redis_url_with_password(),
        socket_timeout=_TIMEOUT_SECONDS,
        socket_connect_timeout=_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    return client


def reading_redis_client(settings: RedisSettings, *, wait_seconds: float) -> redis.Redis:
    """Make a client for one thread that reads with commands which block for `wait_seconds`.

    It connects when it is first used, does not try again by itself, and gives a server up that is
    silent for two seconds longer than it may be.
    """
    client: redis.Redis = redis.Redis.from_url(
        settings.redis_url_with_password(),
        socket_timeout=wait_seconds + _TIMEOUT_SECONDS,
        socket_connect_timeout=_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    return client


def blocking_redis_client(settings: RedisSettings) -> redis.asyncio.Redis:
    """Make an asyncio client for one blocking reader, which has its own retry loop.

    redis-py 8 would otherwise end every blocking command after its default of five seconds.
    """
    client: redis.asyncio.Redis = redis.asyncio.Redis.from_url(
        settings.redis_url_with_password(),
        socket_timeout=None,
        socket_connect_timeout=_TIMEOUT_SECONDS,
        retry=redis.asyncio.retry.Retry(NoBackoff(), 0),
        single_connection_client=True,
    )
    return client
