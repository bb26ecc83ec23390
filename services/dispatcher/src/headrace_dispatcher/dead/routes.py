"""The dead letters over HTTP (O1)."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Query
from pydantic import AwareDatetime, BaseModel, Field

from headrace_common.audit import actor_of
from headrace_common.db import Database
from headrace_common.errors import BadRequestError, NotFoundError
from headrace_common.keys import Principal, Scope
from headrace_common.web import requires
from headrace_common.web.problems import responses
from headrace_dispatcher.dead import decisions, queries
from headrace_dispatcher.dead.decisions import Decision
from headrace_dispatcher.dead.filters import LetterFilter
from headrace_dispatcher.dead.letter import Source, State
from headrace_dispatcher.dead.plan import Action
from headrace_dispatcher.dead.views import (
    GroupList,
    GroupView,
    LetterDetail,
    LetterList,
    show,
    show_detail,
)
from headrace_dispatcher.dead.wishes import DropWish, LettersWish, ReplayWish, Text


class ReplayAnswer(BaseModel):
    """A replay that was begun, or would be."""

    dry_run: bool
    letters: int
    actions: dict[Action, int] | None = Field(
        description="What would be done, of a dry run; what is done is decided when it is due"
    )
    replay_id: str | None = Field(description="Of the replay; null where no letter was meant")
    rate_per_second: float | None
    first_due_at: AwareDatetime | None
    last_due_at: AwareDatetime | None


class DropAnswer(BaseModel):
    """Letters that were dropped, or would be."""

    dry_run: bool
    letters: int


class ReplayProgressView(BaseModel):
    """How a replay gets on; it goes on by itself, whatever happens to whoever asked for it."""

    replay_id: str
    letters: int = Field(description="All of it")
    replaying: int = Field(description="Not yet replayed")
    replayed: int
    failed: int = Field(description="Could not be replayed, or were stopped: dead as before")
    last_due_at: AwareDatetime | None = Field(description="Of those that are not yet replayed")


class StopAnswer(BaseModel):
    """A replay that was stopped."""

    replay_id: str
    stopped: int = Field(description="Letters that it had not come to, dead as before")


LetterId = Annotated[Text, Path(description="Of the letter")]
ReplayId = Annotated[Text, Path(description="From the answer that began the replay")]
Reader = Depends(requires(Scope.JOBS_READ))
Operator = Annotated[Principal, Depends(requires(Scope.ADMIN))]
_TAGS: Final = ["dead letters"]


def _wanted(
    *,
    source: Source | None = None,
    queue: Annotated[Text | None, Query(description="Where it was to be worked off")] = None,
    code: Text | None = None,
    fingerprint: Text | None = None,
    job_id: Text | None = None,
    replay_id: Text | None = None,
    state: Annotated[list[State] | None, Query(description="One of these")] = None,
    died_after: Annotated[AwareDatetime | None, Query(description="Inclusive")] = None,
    died_before: Annotated[AwareDatetime | None, Query(description="Exclusive")] = None,
    text: Annotated[
        Text | None, Query(description="Stands in the reason, the code, or one of the ids")
    ] = None,
) -> LetterFilter:
    return LetterFilter(
        source=source,
        queue=queue,
        code=code,
        fingerprint=fingerprint,
        job_id=job_id,
        replay_id=replay_id,
        states=tuple(state or ()),
        died_after=died_after,
        died_before=died_before,
        text=text,
    )


Wanted = Annotated[LetterFilter, Depends(_wanted)]


def dead_letters_router(database: Database) -> APIRouter:
    """Make the routes on the letters in `database`."""
    router = APIRouter(prefix="/dead-letters", tags=list(_TAGS))
    # Before the routes with an id in their path, which would take their names for one.
    _add_lists(router, database)
    _add_decisions(router, database)
    _add_replays(router, database)

    @router.get("/{letter_id}", dependencies=[Reader], responses=responses(NotFoundError))
    def read_dead_letter(letter_id: LetterId) -> LetterDetail:
        """Show all of a letter: why it died, what it said, and what a replay would do now."""
        with database.begin() as session:
            return show_detail(queries.get(session, letter_id))

    return router


def _add_lists(router: APIRouter, database: Database) -> None:
    @router.get("", dependencies=[Reader], responses=responses(BadRequestError))
    def list_dead_letters(
        wanted: Wanted,
        limit: Annotated[int, Query(ge=1, le=200, description="Most entries of a page")] = 50,
        cursor: Annotated[str | None, Query(max_length=1_000)] = None,
    ) -> LetterList:
        """List letters, those that died last first; of every state unless one is named."""
        with database.begin() as session:
            page = queries.page(session, wanted, limit=limit, cursor=cursor)
        return LetterList(
            letters=[show(found) for found in page.letters], next_cursor=page.next_cursor
        )

    @router.get("/groups", dependencies=[Reader], responses=responses())
    def group_dead_letters(
        wanted: Wanted,
        limit: Annotated[int, Query(ge=1, le=500, description="Most groups")] = 100,
    ) -> GroupList:
        """Show the causes that letters died of, those with most letters first."""
        with database.begin() as session:
            found = queries.groups(session, wanted, limit=limit)
        return GroupList(groups=[GroupView.of(group) for group in found])


def _add_decisions(router: APIRouter, database: Database) -> None:
    @router.post("/replay", responses=responses())
    def replay_dead_letters(wish: ReplayWish, caller: Operator) -> ReplayAnswer:
        """Have dead letters replayed, at once or at a rate; it goes on in the background.

        What is done with each is decided when it is due, as its job is then. A letter that is not
        dead, because it is being replayed for instance, is left alone.
        """
        with database.begin() as session:
            if wish.dry_run:
                actions = decisions.preview(session, wish.selection())
                return ReplayAnswer(
                    dry_run=True,
                    letters=actions.total(),
                    actions=dict(actions),
                    replay_id=None,
                    rate_per_second=wish.rate_per_second,
                    first_due_at=None,
                    last_due_at=None,
                )
            begun = decisions.replay(
                session,
                wish.selection(),
                _decision(wish, caller),
                rate_per_second=wish.rate_per_second,
            )
        return ReplayAnswer(
            dry_run=False,
            letters=begun.letters,
            actions=None,
            replay_id=begun.id,
            rate_per_second=wish.rate_per_second,
            first_due_at=begun.first_due_at,
            last_due_at=begun.last_due_at,
        )

    @router.post("/drop", responses=responses())
    def drop_dead_letters(wish: DropWish, caller: Operator) -> DropAnswer:
        """Give dead letters up for good. Their jobs stay as they are."""
        with database.begin() as session:
            if wish.dry_run:
                letters = decisions.count(session, wish.selection())
            else:
                letters = decisions.drop(session, wish.selection(), _decision(wish, caller))
        return DropAnswer(dry_run=wish.dry_run, letters=letters)


def _add_replays(router: APIRouter, database: Database) -> None:
    @router.get("/replays/{replay_id}", dependencies=[Reader], responses=responses(NotFoundError))
    def read_replay(replay_id: ReplayId) -> ReplayProgressView:
        """Show how a replay gets on."""
        with database.begin() as session:
            found = queries.progress(session, replay_id)
        return ReplayProgressView(
            replay_id=replay_id,
            letters=sum(found.letters.values()),
            replaying=found.letters.get(State.REPLAYING, 0),
            replayed=found.letters.get(State.REPLAYED, 0),
            failed=found.letters.get(State.DEAD, 0) + found.letters.get(State.DROPPED, 0),
            last_due_at=found.last_due_at,
        )

    @router.post("/replays/{replay_id}/stop", responses=responses(NotFoundError))
    def stop_replay(replay_id: ReplayId, caller: Operator) -> StopAnswer:
        """Stop a replay: the letters that it has not come to yet are dead as before."""
        with database.begin() as session:
            stopped = decisions.stop(session, replay_id, actor=actor_of(caller))
        return StopAnswer(replay_id=replay_id, stopped=stopped)


def _decision(wish: LettersWish, caller: Principal) -> Decision:
    """Say who decides, and how the letters were chosen."""
    told: dict[str, Any] = {"limit": wish.limit}
    if wish.ids is not None:
        told["ids"] = wish.ids[:_MOST_TOLD_IDS]
        told["ids_given"] = len(wish.ids)
    elif wish.filter is not None:
        told["filter"] = wish.filter.model_dump(mode="json", exclude_none=True)
    else:
        told["all"] = True
    return Decision(actor_of(caller), told)


#: Of many ids the audit trail keeps so many; the letters themselves say who replayed them.
_MOST_TOLD_IDS: Final = 100
