"""Schedules over HTTP."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import AfterValidator

from headrace_common.contracts.schedules import FiringState
from headrace_common.db import Database, is_storable
from headrace_common.errors import BadRequestError, NotFoundError
from headrace_common.keys import Principal, Scope
from headrace_common.web import requires
from headrace_common.web.problems import responses
from headrace_dispatcher.scheduling import changes, firing_rows, rows, switching
from headrace_dispatcher.scheduling.calendar_routes import calendars_router
from headrace_dispatcher.scheduling.changes import (
    Outcome,
    ScheduleChangedError,
    ScheduleExistsError,
)
from headrace_dispatcher.scheduling.deed import Deed
from headrace_dispatcher.scheduling.faults import FieldRoute
from headrace_dispatcher.scheduling.firing_rows import FiringFilter
from headrace_dispatcher.scheduling.limit_routes import targets_router
from headrace_dispatcher.scheduling.measuring import SchedulerState, scheduler_state
from headrace_dispatcher.scheduling.requests import (
    MAX_PREVIEW,
    Name,
    NewSchedule,
    PauseWish,
    PreviewWish,
    ScheduleBody,
    ScheduleChange,
)
from headrace_dispatcher.scheduling.rows import ScheduleFilter
from headrace_dispatcher.scheduling.switching import ScheduleBuiltInError
from headrace_dispatcher.scheduling.views import (
    FiringPage,
    FiringView,
    Preview,
    ScheduleDetail,
    ScheduleList,
    ScheduleView,
)

#: Next firings that an answer to a change has.
_SHOWN: Final = 5


def _storable(value: str) -> str:
    if not is_storable(value):
        raise ValueError("has characters that no name has")
    return value


Text = Annotated[str, Query(max_length=500), AfterValidator(_storable)]
ScheduleName = Annotated[str, Path(description="Of the schedule")]
Reader = Depends(requires(Scope.JOBS_READ))
Writer = Annotated[Principal, Depends(requires(Scope.JOBS_WRITE))]
#: Few of many schedules, or many of one.
Firings = Annotated[int, Query(ge=0, le=10, description="Next firings to show of each")]
ManyFirings = Annotated[int, Query(ge=0, le=MAX_PREVIEW, description="Next firings to show")]
Cursor = Annotated[str | None, Query(max_length=1_000)]
States = Annotated[list[FiringState] | None, Query(description="One of these")]
Limit = Annotated[int, Query(ge=1, le=200, description="Most entries of a page")]


def _wanted(
    *,
    target: Text | None = None,
    target_key: Annotated[Text | None, Query(description="`camera:NAME`, `job:ID`")] = None,
    calendar: Text | None = None,
    paused: bool | None = None,
    built_in: bool | None = None,
    prefix: Annotated[Text | None, Query(description="What names begin with")] = None,
) -> ScheduleFilter:
    return ScheduleFilter(
        target=target,
        target_key=target_key,
        calendar=calendar,
        paused=paused,
        built_in=built_in,
        prefix=prefix,
    )


def scheduling_routers(database: Database) -> list[APIRouter]:
    """Make every route on schedules and what belongs to them, in `database`."""
    return [
        schedules_router(database),
        calendars_router(database),
        targets_router(database),
        _whole_router(database),
    ]


def schedules_router(database: Database) -> APIRouter:
    """Make the routes on the schedules in `database`."""
    router = APIRouter(prefix="/schedules", tags=["schedules"], route_class=FieldRoute)
    _add_reading(router, database)
    _add_changes(router, database)
    _add_switches(router, database)
    return router


def _whole_router(database: Database) -> APIRouter:
    router = APIRouter(tags=["schedules"], route_class=FieldRoute)

    @router.get("/firings", dependencies=[Reader], responses=responses(BadRequestError))
    def list_all_firings(
        state: States = None,
        target: Text | None = None,
        target_key: Annotated[Text | None, Query(description="`camera:NAME`, `job:ID`")] = None,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> FiringPage:
        """Show what all schedules fired, what was recorded last first, and what came of it."""
        wanted = FiringFilter(states=tuple(state or ()), target=target, target_key=target_key)
        with database.begin() as session:
            return firing_rows.of_all(session, wanted, limit=limit, cursor=cursor)

    @router.get("/scheduler", dependencies=[Reader], responses=responses())
    def read_scheduler() -> SchedulerState:
        """Show who drives the schedules, what is late, and by how much firings drift."""
        with database.begin() as session:
            return scheduler_state(session)

    return router


def _add_reading(router: APIRouter, database: Database) -> None:
    @router.get("", dependencies=[Reader], responses=responses(BadRequestError))
    def list_schedules(
        wanted: Annotated[ScheduleFilter, Depends(_wanted)],
        limit: Limit = 50,
        cursor: Cursor = None,
        firings: Firings = 1,
    ) -> ScheduleList:
        """List schedules by their names, each with its next firings."""
        with database.begin() as session:
            return rows.page(session, wanted, limit=limit, cursor=cursor, firings=firings)

    @router.get("/{name}", dependencies=[Reader], responses=responses(NotFoundError))
    def read_schedule(name: ScheduleName, firings: ManyFirings = _SHOWN) -> ScheduleDetail:
        """Show a schedule: when it fires next, and what came of its last firings."""
        with database.begin() as session:
            return rows.show_detail(session, rows.find(session, name), firings=firings)

    @router.get(
        "/{name}/firings",
        dependencies=[Reader],
        responses=responses(BadRequestError, NotFoundError),
    )
    def list_firings(
        name: ScheduleName,
        state: States = None,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> FiringPage:
        """Show what a schedule fired, newest first, and what came of it."""
        wanted = FiringFilter(states=tuple(state or ()))
        with database.begin() as session:
            schedule = rows.find(session, name)
            return firing_rows.of_schedule(session, schedule, wanted, limit=limit, cursor=cursor)

    @router.post("/preview", dependencies=[Reader], responses=responses())
    def preview_schedule(wish: PreviewWish) -> Preview:
        """Say when a schedule would fire, without making it. Its jitter is not among that."""
        with database.begin() as session:
            return rows.preview(session, wish)


def _add_changes(router: APIRouter, database: Database) -> None:
    @router.post("", status_code=201, responses=responses(ScheduleExistsError))
    def create_schedule(wish: NewSchedule, caller: Writer) -> ScheduleView:
        """Make a schedule. `errors` of a 422 names the fields that are wrong.

        Its first firing lies ahead; one that would never fire is refused. House-keeping targets
        take the scope `admin`.
        """
        with database.begin() as session:
            made = changes.create(Deed(session, caller), wish)
            return rows.show(session, made, firings=_SHOWN)

    @router.put("/{name}", responses=responses() | {201: {"model": ScheduleView}})
    def put_schedule(
        name: Annotated[Name, Path(description="Of the schedule")],
        wish: ScheduleBody,
        caller: Writer,
        response: Response,
    ) -> ScheduleView:
        """Make a schedule, or have the one of that name say this; doing it again changes nothing.

        Answers 201 where it made one. What is left out is as it would be of a new one.
        """
        with database.begin() as session:
            put, outcome = changes.put(Deed(session, caller), name, wish)
            if outcome is Outcome.CREATED:
                response.status_code = 201
            return rows.show(session, put, firings=_SHOWN)

    @router.patch("/{name}", responses=responses(NotFoundError, ScheduleChangedError))
    def change_schedule(name: ScheduleName, wish: ScheduleChange, caller: Writer) -> ScheduleView:
        """Change a schedule: what is left out stays, what is null goes.

        A change of `trigger`, `time_zone`, `start_at`, `end_at`, `jitter_seconds` or `calendar`
        counts from now on: what was due is fired as before, and nothing is fired again. Other
        changes leave its next firing alone. Built-in ones take the scope `admin`.
        """
        with database.begin() as session:
            changed = changes.change(Deed(session, caller), name, wish)
            return rows.show(session, changed, firings=_SHOWN)

    @router.delete(
        "/{name}", status_code=204, responses=responses(NotFoundError, ScheduleBuiltInError)
    )
    def delete_schedule(name: ScheduleName, caller: Writer) -> None:
        """Remove a schedule with its history. What it has begun goes on."""
        with database.begin() as session:
            switching.remove(Deed(session, caller), name)


def _add_switches(router: APIRouter, database: Database) -> None:
    @router.post("/{name}/pause", responses=responses(NotFoundError))
    def pause_schedule(
        name: ScheduleName, caller: Writer, wish: PauseWish | None = None
    ) -> ScheduleView:
        """Fire a schedule no more until it is resumed. What it has begun goes on."""
        reason = wish.reason if wish else None
        with database.begin() as session:
            paused = switching.set_paused(Deed(session, caller), name, paused=True, reason=reason)
            return rows.show(session, paused, firings=_SHOWN)

    @router.post("/{name}/resume", responses=responses(NotFoundError))
    def resume_schedule(name: ScheduleName, caller: Writer) -> ScheduleView:
        """Go on with a schedule from now. What would have come meanwhile is not made up for."""
        with database.begin() as session:
            resumed = switching.set_paused(Deed(session, caller), name, paused=False, reason=None)
            return rows.show(session, resumed, firings=_SHOWN)

    @router.post("/{name}/run", status_code=202, responses=responses(NotFoundError))
    def run_schedule(name: ScheduleName, caller: Writer) -> FiringView:
        """Fire a schedule now, also a paused one. Its overlap policy and limits hold.

        The answer says `skipped` where the policy has it so; else it goes on by itself, and
        `/schedules/{name}/firings` says what came of it.
        """
        with database.begin() as session:
            schedule, firing = switching.run_now(Deed(session, caller), name)
            return FiringView.of(firing, schedule.name)
