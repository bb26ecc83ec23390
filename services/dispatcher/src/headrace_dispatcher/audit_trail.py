"""The audit trail over HTTP: who did what to the installation."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import AfterValidator, BaseModel, Field, JsonValue

from headrace_common import audit
from headrace_common.db import Database, is_storable
from headrace_common.errors import BadRequestError
from headrace_common.keys import Scope
from headrace_common.telemetry.secrets import deeply_without_url_values
from headrace_common.web import requires
from headrace_common.web.problems import responses


class AuditEntryView(BaseModel):
    """A deed."""

    id: int
    at: datetime
    actor: str = Field(description="Id of the API key, or a name of ours", examples=["0f3a9c"])
    action: str = Field(examples=["dead.replay"])
    target: str = Field(description="What it was done to", examples=["rollout"])
    details: dict[str, JsonValue]


class AuditPage(BaseModel):
    """Deeds, newest first."""

    entries: list[AuditEntryView]
    next_cursor: str | None = Field(description="`cursor` of the next page; null on the last")


def _known(value: str) -> str:
    if not is_storable(value):
        raise ValueError("has characters that no target has")
    return value


def audit_router(database: Database) -> APIRouter:
    """Make the route on the trail in `database`."""
    router = APIRouter(tags=["audit"])

    @router.get(
        "/audit",
        dependencies=[Depends(requires(Scope.JOBS_READ))],
        responses=responses(BadRequestError),
    )
    def read_audit_trail(
        target: Annotated[
            str | None,
            Query(max_length=500, description="Only deeds to it"),
            AfterValidator(_known),
        ] = None,
        limit: Annotated[int, Query(ge=1, le=200, description="Most entries of a page")] = 50,
        cursor: Annotated[str | None, Query(max_length=1_000)] = None,
    ) -> AuditPage:
        """Show who did what, newest first."""
        with database.begin() as session:
            rows, following = audit.page(session, limit=limit, cursor=cursor, target=target)
        return AuditPage(
            entries=[
                AuditEntryView(
                    id=row.id,
                    at=row.at,
                    actor=row.actor,
                    action=row.action,
                    target=row.target,
                    details=deeply_without_url_values(row.details),
                )
                for row in rows
            ],
            next_cursor=following,
        )

    return router
