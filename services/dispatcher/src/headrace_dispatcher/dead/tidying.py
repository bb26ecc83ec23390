"""Clearing away what is settled: entries left in the streams, and letters kept long enough."""

from collections import defaultdict
from datetime import timedelta
from typing import Final

import redis
from sqlalchemy import delete, func, select, update

from headrace_common.db import Database, DeadLetter
from headrace_dispatcher.dead.letter import State

_BATCH: Final = 500
_SETTLED: Final = (State.REPLAYED, State.DROPPED)


class Tidying:
    """Clears away; each step may be repeated."""

    def __init__(self, database: Database, client: redis.Redis, *, retention: timedelta) -> None:
        """Make it.

        Args:
            database: where the letters are.
            client: deletes entries of streams.
            retention: of letters that were decided about.
        """
        self._database = database
        self._client = client
        self._retention = retention

    def tidy(self) -> None:
        """Do all that is to be done.

        Raises:
            redis.RedisError: Redis is away.
        """
        self._purge()
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
                .where(DeadLetter.at_source, DeadLetter.state.in_(_SETTLED))
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

    def _purge(self) -> None:
        with self._database.begin() as session:
            session.execute(
                delete(DeadLetter).where(
                    DeadLetter.state.in_(_SETTLED),
                    DeadLetter.state_at < func.now() - self._retention,
                    ~DeadLetter.at_source,
                )
            )
