"""The row of the roll-out: read, and changed by one at a time."""

from typing import Any, Final

from sqlalchemy import func, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from headrace_common import audit
from headrace_common.db import Rollout
from headrace_common.errors import ConflictError
from headrace_dispatcher.rollout.state import RolloutPolicy, RolloutState, Source
from headrace_dispatcher.transports import TransportName

_ROW_ID: Final = 1
#: Target of what the audit trail tells of roll-outs.
AUDIT_TARGET: Final = "rollout"

#: Jobs that are freed at once.
_RELEASE_BATCH: Final = 5_000
# Each part of the union is a range of an index. Locked in the order of their ids, like everywhere,
# so that nobody waits in a circle. Those that wait for their next try have it now; the others have
# a message.
_RELEASE: Final = text("""
WITH found AS (
    (SELECT id FROM jobs
     WHERE transport = :side AND finished_at IS NULL AND sent_at IS NULL
       AND kind = 'audio_analysis'
     LIMIT :most)
    UNION
    (SELECT id FROM jobs
     WHERE retry_at > now() AND waiting_for = :dependency AND finished_at IS NULL
       AND sent_at IS NULL AND kind = 'audio_analysis'
     ORDER BY retry_at LIMIT :most)
), released AS (
    SELECT id FROM jobs
    WHERE id IN (SELECT id FROM found) AND finished_at IS NULL AND sent_at IS NULL
    ORDER BY id FOR UPDATE
)
UPDATE jobs SET transport = NULL, updated_at = clock_timestamp(),
    retry_at = CASE WHEN retry_at IS NOT NULL THEN least(retry_at, now()) END
FROM released WHERE jobs.id = released.id
RETURNING jobs.id
""")


class RolloutChangedError(ConflictError):
    """Somebody else changed the roll-out meanwhile."""

    code = "rollout_changed"
    title = "Roll-out was changed"


def read(session: Session, default: RolloutState) -> RolloutState:
    """Return what is set; `default` where nothing is."""
    row = session.get(Rollout, _ROW_ID)
    return default if row is None else _state_of(row)


def write(
    session: Session, before: RolloutState, after: RolloutState, *, actor: str, action: str
) -> RolloutState:
    """Set the roll-out and note it in the audit trail.

    Args:
        session: of the transaction.
        before: what `after` was made from; anybody's change since then is not overwritten.
        after: what is to be.
        actor: who wants it.
        action: for the audit trail.

    Returns:
        What is set now, with its new version.

    Raises:
        RolloutChangedError: `before` is not what is set any more.
    """
    values = _values(after, actor)
    if before.version == 0:
        statement: Any = (
            insert(Rollout)
            .values(id=_ROW_ID, version=1, **values)
            .on_conflict_do_nothing()
            .returning(Rollout)
        )
    else:
        statement = (
            update(Rollout)
            .where(Rollout.id == _ROW_ID, Rollout.version == before.version)
            .values(version=Rollout.version + 1, **values)
            .returning(Rollout)
        )
    row = session.scalar(statement, execution_options={"populate_existing": True})
    if row is None:
        raise RolloutChangedError("the roll-out was changed meanwhile; look at it again")
    audit.record(
        session,
        actor=actor,
        action=action,
        target=AUDIT_TARGET,
        before=_told(before),
        after=_told(after),
        reason=after.reason,
    )
    return _state_of(row)


def release(session: Session, side: TransportName, dependency: str) -> int:
    """Free jobs that wait for a side, and that it has not taken, to go the other way at once.

    In batches, so that any number of them fits into the time of a statement; where a job goes
    is decided anew in any case.

    Returns:
        How many; 0 once there is none left.
    """
    asked = {"side": side, "dependency": dependency, "most": _RELEASE_BATCH}
    return len(session.execute(_RELEASE, asked).all())


def _state_of(row: Rollout) -> RolloutState:
    return RolloutState(
        source=Source.ROLLOUT,
        sqs_percent=row.sqs_percent,
        shadow_percent=row.shadow_percent,
        new_side=TransportName(row.new_side) if row.new_side else None,
        rolled_back=TransportName(row.rolled_back) if row.rolled_back else None,
        auto_rollback=row.auto_rollback,
        policy=RolloutPolicy.model_validate(row.policy),
        version=row.version,
        reason=row.reason,
        changed_by=row.changed_by,
        changed_at=row.changed_at,
    )


def _values(state: RolloutState, actor: str) -> dict[str, Any]:
    return {
        "sqs_percent": state.sqs_percent,
        "shadow_percent": state.shadow_percent,
        "new_side": state.new_side,
        "rolled_back": state.rolled_back,
        "auto_rollback": state.auto_rollback,
        "policy": state.policy.model_dump(mode="json"),
        "reason": state.reason,
        "changed_by": actor,
        "changed_at": func.clock_timestamp(),
    }


def _told(state: RolloutState) -> dict[str, Any]:
    told = {"sqs_percent", "shadow_percent", "auto_rollback", "policy", "version"}
    return state.model_dump(mode="json", include=told)
