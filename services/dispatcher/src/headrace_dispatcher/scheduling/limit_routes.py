"""What schedules can fire at, and how much of it may run at once, over HTTP."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from headrace_common import audit
from headrace_common.contracts.schedules import FiringState, TargetContract, target_contracts
from headrace_common.db import Database, Firing, TargetLimit, is_storable
from headrace_common.errors import NotFoundError
from headrace_common.keys import Principal, Scope
from headrace_common.web import requires
from headrace_common.web.problems import responses
from headrace_dispatcher.scheduling.faults import FieldRoute

#: Between the kind of a target and its name, in the key of one target: `camera:gate-3`.
_KEY_MARK: Final = ":"


class TargetLimitView(BaseModel):
    """How many firings of a target may run at once, and how many do."""

    target: str = Field(
        description="A declared target, or the key of one single target",
        examples=["camera.preprocess", "camera:gate-3"],
    )
    max_running: int | None = Field(description="null: no limit", examples=[4])
    running: int = Field(description="Firings that are `sent` or `running`")
    waiting: int = Field(description="Firings that are `pending`")
    changed_by: str | None = Field(description="Id of the API key")
    changed_at: datetime | None


class TargetLimitList(BaseModel):
    """Every limit that is set."""

    limits: list[TargetLimitView]


class TargetView(BaseModel):
    """Something that a schedule can fire at."""

    name: str = Field(examples=["camera.preprocess"])
    summary: str
    params: dict[str, Any] = Field(description="JSON schema of `params`")
    queue: str = Field(description="Dramatiq queue of its messages")
    tracked: bool = Field(description="It is known how a firing ended, not only that it was sent")
    housekeeping: bool
    limit: TargetLimitView


class TargetList(BaseModel):
    """Everything that schedules can fire at."""

    targets: list[TargetView]


class LimitWish(BaseModel):
    """How many firings of a target may run at once."""

    model_config = ConfigDict(extra="forbid")

    max_running: int = Field(ge=1, le=10_000, description="Others wait", examples=[4])


def _storable(value: str) -> str:
    if not is_storable(value):
        raise ValueError("has characters that no target has")
    return value


TargetName = Annotated[
    str,
    Path(
        max_length=500,
        description="A declared target, or the key of a single one: `camera:NAME`, `job:ID`",
    ),
    AfterValidator(_storable),
]
Operator = Annotated[Principal, Depends(requires(Scope.ADMIN))]
Reader = Depends(requires(Scope.JOBS_READ))


@dataclass
class _Open:
    running: int = 0
    waiting: int = 0


def targets_router(database: Database) -> APIRouter:
    """Make the routes on the targets, with limits in `database`."""
    router = APIRouter(prefix="/targets", tags=["targets"], route_class=FieldRoute)

    @router.get("", dependencies=[Reader], responses=responses())
    def list_targets() -> TargetList:
        """Show what schedules can fire at, and which parameters each takes."""
        with database.begin() as session:
            limits, counts = _limits(session), _open_firings(session)
        return TargetList(
            targets=[
                _shown(contract, _view(name, limits.get(name), counts))
                for name, contract in target_contracts().items()
            ]
        )

    @router.get("/limits", dependencies=[Reader], responses=responses())
    def list_limits() -> TargetLimitList:
        """Show the limits that are set, and how much runs."""
        with database.begin() as session:
            limits, counts = _limits(session), _open_firings(session)
        return TargetLimitList(limits=[_view(name, row, counts) for name, row in limits.items()])

    @router.put("/{target:path}/limit", responses=responses(NotFoundError))
    def set_limit(target: TargetName, wish: LimitWish, caller: Operator) -> TargetLimitView:
        """Let no more firings of a target run at once. Others wait, in the order they were due.

        Both count where a declared target and one single target of it have a limit.
        """
        _check_known(target)
        with database.begin() as session:
            _set(session, target, wish.max_running, actor=audit.actor_of(caller))
            return _view(target, session.get(TargetLimit, target), _open_firings(session))

    @router.delete("/{target:path}/limit", status_code=204, responses=responses(NotFoundError))
    def remove_limit(target: TargetName, caller: Operator) -> None:
        """Let any number of firings of a target run at once."""
        with database.begin() as session:
            _remove(session, target, actor=audit.actor_of(caller))

    return router


def _limits(session: Session) -> dict[str, TargetLimit]:
    rows = session.scalars(select(TargetLimit).order_by(TargetLimit.target))
    return {row.target: row for row in rows}


def _set(session: Session, target: str, max_running: int, *, actor: str) -> None:
    values = {
        "max_running": max_running,
        "changed_by": actor,
        "changed_at": func.clock_timestamp(),
    }
    session.execute(
        insert(TargetLimit)
        .values(target=target, **values)
        .on_conflict_do_update(index_elements=[TargetLimit.target], set_=values)
    )
    audit.record(
        session, actor=actor, action="target.limit", target=target, max_running=max_running
    )


def _remove(session: Session, target: str, *, actor: str) -> None:
    removed = session.scalar(
        delete(TargetLimit).where(TargetLimit.target == target).returning(TargetLimit.target)
    )
    if removed is None:
        raise NotFoundError(f"{target[:100]!r} has no limit")
    audit.record(session, actor=actor, action="target.unlimit", target=target)


def _check_known(target: str) -> None:
    known = target_contracts()
    if target not in known and _KEY_MARK not in target:
        raise NotFoundError(f"no target {target[:100]!r}; there are {', '.join(known)}")


def _open_firings(session: Session) -> dict[str, _Open]:
    """Count open firings of every target, by its name and by its key."""
    rows = session.execute(
        select(Firing.target, Firing.target_key, Firing.state, func.count())
        .where(Firing.finished_at.is_(None))
        .group_by(Firing.target, Firing.target_key, Firing.state)
    )
    counts: dict[str, _Open] = {}
    for target, key, state, count in rows:
        for name in {target, key}:
            found = counts.setdefault(name, _Open())
            if state == FiringState.PENDING:
                found.waiting += count
            else:
                found.running += count
    return counts


def _view(target: str, row: TargetLimit | None, counts: Mapping[str, _Open]) -> TargetLimitView:
    found = counts.get(target, _Open())
    return TargetLimitView(
        target=target,
        max_running=row.max_running if row else None,
        running=found.running,
        waiting=found.waiting,
        changed_by=row.changed_by if row else None,
        changed_at=row.changed_at if row else None,
    )


def _shown(contract: TargetContract, limit: TargetLimitView) -> TargetView:
    return TargetView(
        name=contract.name,
        summary=contract.summary,
        params=contract.params.model_json_schema(),
        queue=contract.queue,
        tracked=contract.tracked,
        housekeeping=contract.is_housekeeping,
        limit=limit,
    )
