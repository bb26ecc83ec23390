"""Connections to the stream's server, each for one kind of use.

Every one gives up in bounded time and does not try again by itself: the loops that use them
know what may be repeated. RESP2 is spoken because every server since Redis 6.2 does.
"""

from typing import Final

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from headrace_gpu_preprocessor.stream.settings import StreamSettings

_CONNECT_SECONDS: Final = 2.0
#: A healthy server answers in milliseconds; scripts that trim a long stream take longer.
_COMMAND_SECONDS: Final = 5.0
#: An answer of a blocking read is so late at most.
_BLOCK_MARGIN_SECONDS: Final = 2.0
#: Commands at a time: one for each job that ends, and housekeeping.
_MOST_CONNECTIONS: Final = 40


def command_client(settings: StreamSettings) -> redis.asyncio.Redis:
    """Make the client for short commands; each takes a connection of its own from the pool."""
    return _client(settings, seconds=_COMMAND_SECONDS)


def lease_client(settings: StreamSettings) -> redis.asyncio.Redis:
    """Make the client that renews leases; a renewal without an answer leaves time for more."""
    seconds = min(_COMMAND_SECONDS, settings.redis_visibility_timeout / 4)
    return _client(settings, seconds=seconds)


def reader_client(settings: StreamSettings) -> redis.asyncio.Redis:
    """Make the client of one blocking reader: one connection, that waits longer than it blocks."""
    seconds = settings.redis_block_ms / 1_000 + _BLOCK_MARGIN_SECONDS
    return _client(settings, seconds=seconds, single=True)


def status_client(settings: StreamSettings) -> redis.Redis:
    """Make the synchronous client that answers questions from other threads."""
    client: redis.Redis = redis.Redis.from_url(
        settings.redis_url_with_password(),
        protocol=2,
        socket_timeout=_CONNECT_SECONDS,
        socket_connect_timeout=_CONNECT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    return client


def _client(
    settings: StreamSettings, *, seconds: float, single: bool = False
) -> redis.asyncio.Redis:
    client: redis.asyncio.Redis = redis.asyncio.Redis.from_url(
        settings.redis_url_with_password(),
        protocol=2,
        socket_timeout=seconds,
        socket_connect_timeout=min(seconds, _CONNECT_SECONDS),
        socket_keepalive=True,
        retry=redis.asyncio.retry.Retry(NoBackoff(), 0),
        max_connections=_MOST_CONNECTIONS,
        single_connection_client=single,
    )
    return client
