"""What the database and Redis show at the end."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

import redis
from dramatiq import Message
from sqlalchemy import select, text

from headrace_common.db import Database, Firing
from headrace_drill.beats import Beat
from headrace_drill.checker import Facts, FiringFact, MessageFact
from headrace_drill.target import NOTE


def gather(
    database: Database,
    client: redis.Redis,
    *,
    namespace: str,
    beats: Sequence[Beat],
    until: datetime,
) -> Facts:
    """Read all that is nominally due until then."""
    query = select(Firing).where(Firing.target == NOTE.name, Firing.fire_at <= until)
    with database.begin() as session:
        firings = [
            FiringFact(
                id=row.id,
                schedule_id=row.schedule_id,
                fire_at=row.fire_at,
                due_at=row.due_at,
                fired_at=row.fired_at,
                sent_at=row.sent_at,
                origin=row.origin,
                state=row.state,
                epoch=row.epoch,
                message_id=row.message_id,
            )
            for row in session.scalars(query)
        ]
    return Facts(beats, until, firings, _messages(client, f"{namespace}:{NOTE.queue}"))


def count_unfinished(database: Database, until: datetime) -> int:
    """Return how much of what is due by then has not fired, or was not sent."""
    due = "SELECT count(*) FROM schedules WHERE target = :target AND next_due_at <= :until"
    waits = (
        "SELECT count(*) FROM firings "
        "WHERE target = :target AND fire_at <= :until AND finished_at IS NULL"
    )
    asked = {"target": NOTE.name, "until": until}
    with database.begin() as session:
        return sum(int(session.scalar(text(each), asked) or 0) for each in (due, waits))


def _messages(client: redis.Redis, queue: str) -> list[MessageFact]:
    # Typed as if it might decode, which it is not told to.
    found: dict[bytes, bytes] = dict(cast("Any", client.hgetall(f"{queue}.msgs")))
    order: list[bytes] = list(cast("Any", client.lrange(queue, 0, -1)))
    bodies = {key.decode(): Message.decode(body) for key, body in found.items()}
    places = [key.decode() for key in order]
    return [
        MessageFact(
            message_id=place,
            firing_id=int(bodies[place].options["firing_id"]),
            fire_at=datetime.fromisoformat(bodies[place].options["fire_at"]),
        )
        for place in places
    ]
