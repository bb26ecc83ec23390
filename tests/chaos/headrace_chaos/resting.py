"""Letting house-keeping rest before the checker looks.

It fires every second of a run, for ever: whoever counts messages at a moment of his choice finds
some of it under way. So it is paused once all jobs have come to their end, and what it has begun is
waited for. What still lies in a queue after that was left there.
"""

from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import Any, Final

import httpx
import structlog
from sqlalchemy import func, select

from headrace_chaos.endpoints import Endpoints
from headrace_chaos.looking_database import open_database
from headrace_chaos.looking_queues import redis_of
from headrace_common.contracts.schedules import HOUSEKEEPING, target_contracts
from headrace_common.db import Database, Firing
from headrace_local.waiting import wait_until

log = structlog.get_logger()

_NAMESPACE: Final = "dramatiq"


def house_keeping_queues() -> frozenset[str]:
    """Return the names of the queues that have house-keeping only."""
    return frozenset(each.queue for each in target_contracts().values() if each.is_housekeeping)


def without_house_keeping(messages: Mapping[str, int]) -> dict[str, int]:
    """Return the counts of the other places, of counts by place."""
    ends = tuple(f":{queue}.msgs" for queue in house_keeping_queues())
    return {place: count for place, count in messages.items() if not place.endswith(ends)}


def let_house_keeping_rest(endpoints: Endpoints, *, patience: float) -> None:
    """Pause it, and wait until what it has begun is over.

    Args:
        endpoints: of the stack.
        patience: seconds after which whatever still lies there is left to the checker.
    """
    url = f"{endpoints.service('dispatcher')}/schedules"
    with httpx.Client(headers=endpoints.headers, timeout=30, trust_env=False) as client:
        for name in _built_in(client, url):
            client.post(f"{url}/{name}/pause").raise_for_status()
    database = open_database(endpoints.settings)
    with closing(database), closing(redis_of(endpoints)) as connection:
        try:
            wait_until(lambda: _open_firings(database) == 0, seconds=patience)
            wait_until(lambda: not _waiting(connection, endpoints), seconds=patience)
        except AssertionError as error:
            log.warning("chaos.house_keeping_goes_on", error=str(error))  # for the checker to tell


def _built_in(client: httpx.Client, url: str) -> Iterable[str]:
    answer = client.get(url, params={"built_in": "true", "limit": 100}).raise_for_status()
    return [schedule["name"] for schedule in answer.json()["schedules"]]


def _open_firings(database: Database) -> int:
    query = select(func.count()).where(
        Firing.finished_at.is_(None), Firing.target.startswith(HOUSEKEEPING)
    )
    with database.begin() as session:
        return session.scalar(query) or 0


def _waiting(connection: Any, endpoints: Endpoints) -> int:
    namespace = endpoints.settings.get("DRAMATIQ_NAMESPACE", _NAMESPACE)
    return sum(connection.hlen(f"{namespace}:{name}.msgs") for name in house_keeping_queues())
