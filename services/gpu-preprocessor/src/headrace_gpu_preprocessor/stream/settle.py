"""Ending a delivery for certain: what Redis did not answer is sent again."""

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Final

import redis
import structlog

from headrace_gpu_preprocessor.stream import metrics

log = structlog.get_logger()

_FIRST_PAUSE_SECONDS: Final = 0.05
_LONGEST_PAUSE_SECONDS: Final = 2.0
#: Of the failures while the server is away, so many make one line.
_LOG_EVERY: Final = 20


class Settlement(StrEnum):
    """What came of the end of a delivery."""

    SETTLED = "settled"
    #: The entry was another's by then; nothing changed.
    LOST = "lost"
    #: Redis was away until the process had to stop; the entry comes again.
    GIVEN_UP = "given_up"


async def settle(
    end: Callable[[], Awaitable[bool]], *, give_up: asyncio.Event, what: str
) -> Settlement:
    """Run one of the scripts that end a delivery until the server has answered.

    The scripts are fenced, so that sending one again is safe. One that was sent and not
    answered may have run: a later "not yours" then most likely means that.

    Args:
        end: runs the script; tells whether the delivery was ours.
        give_up: set when there is no time left.
        what: for logs.
    """
    unsure, failures = False, 0
    while True:
        try:
            if await end() or unsure:
                return Settlement.SETTLED
        except (redis.RedisError, OSError) as error:
            unsure = unsure or not isinstance(error, redis.ResponseError)
            if failures % _LOG_EVERY == 0:
                log.warning(
                    "stream.settling_delayed", what=what, error=str(error), failures=failures
                )
        else:
            metrics.SETTLEMENTS_LOST.inc()
            log.warning("stream.settlement_lost", what=what)
            return Settlement.LOST
        pause = min(_FIRST_PAUSE_SECONDS * 2.0 ** min(failures, 10), _LONGEST_PAUSE_SECONDS)
        failures += 1
        try:
            async with asyncio.timeout(pause):
                await give_up.wait()
        except TimeoutError:
            continue
        return Settlement.GIVEN_UP
