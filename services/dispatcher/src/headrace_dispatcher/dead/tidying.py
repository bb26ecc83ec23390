"""Clearing away what is settled: entries left in the streams where they died.

The letters themselves go with the house-keeping of records.
"""

from collections import defaultdict
from typing import Final

import redis
from sqlalchemy import select, update

from headrace_common.db import Database, DeadLetter
from headrace_dispatcher.dead.letter import SETTLED

_BATCH: Final = 500


class Tidying:
    """Clears away; each step may be repeated."""

    def __init__(self, database: Database, client: redis.Redis) -> None:
        """Make it: the letters are in `database`, and `client` deletes entries of streams."""
        self._database = database
        self._client = client

    def tidy(self) -> None:
        """Do all that is to be done.

        Raises:
            redis.RedisError: Redis is away.
        """
        while self._clear_streams() == _BATCH:
            pass

    def _clear_streams(self) -> int:
        """Delete the entries of settled letters where they died; then note it."""
        with self._database.begin() as session:
            rows = session.execute(
                select(
                    DeadLetter.id,
                    DeadLetter.source_id,
                    DeadLetter.payload["dead_stream"].astext.label("dead_stream"),
                )
                .where(DeadLetter.at_source, DeadLetter.state.in_(SETTLED))
                .limit(_BATCH)
            ).all()
        by_stream: dict[str, list[str]] = defaultdict(list)
        for row in rows:
            by_stream[row.dead_stream].append(row.source_id)
        for stream, entry_ids in by_stream.items():
            self._client.xdel(stream, *entry_ids)
        if rows:
            with self._database.begin() as session:
                session.execute(
                    update(DeadLetter)
                    .where(DeadLetter.id.in_([row.id for row in rows]))
                    .values(at_source=False)
                )
        return len(rows)
