"""The HTTP API of the roll-out: read it, set it, take it back, compare."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from headrace_common import audit
from headrace_common.db import Database, ShadowRun, is_storable
from headrace_common.errors import (
    ConflictError,
    NotFoundError,
    UnavailableError,
    UnprocessableError,
)
from headrace_common.keys import Principal, Scope
from headrace_common.web import requires
from headrace_common.web.problems import responses
from headrace_dispatcher.circuits import Circuits
from headrace_dispatcher.rollout import rows
from headrace_dispatcher.rollout.current import CurrentRollout, count_rollback
from headrace_dispatcher.rollout.figures import shadow_figures
from headrace_dispatcher.rollout.guarding import both_sides, roll_back, verdict_of
from headrace_dispatcher.rollout.outcomes import KEPT
from headrace_dispatcher.rollout.state import (
    ALL,
    RolloutChange,
    RolloutState,
    changed,
    percent_without,
)
from headrace_dispatcher.rollout.views import Comparison, RolloutView, ShadowView
from headrace_dispatcher.transports import TransportName

Reader = Annotated[Principal, Depends(requires(Scope.JOBS_READ))]
Admin = Annotated[Principal, Depends(requires(Scope.ADMIN))]

_DEFAULT_MINUTES: Final = 15
_MAX_MINUTES: Final = int(KEPT.total_seconds() // 60)
#: What makes a transport configured.
_SETTINGS: Final = {
    TransportName.SQS: "SQS_QUEUE_URL",
    TransportName.HTTP: "ANALYSIS_SERVER_URL",
}


class TransportMissingError(UnprocessableError):
    """A share is to go over a transport that is not configured."""

    code = "transport_not_configured"
    title = "Transport is not configured"


class NothingToRollBackError(ConflictError):
    """No side is tried, so that none can be taken back."""

    code = "nothing_to_roll_back"
    title = "Nothing to roll back"


class RollbackRequest(BaseModel):
    """Why."""

    reason: str = Field(default="by hand", max_length=500)


class RolloutDesk:
    """What the routes do."""

    def __init__(
        self,
        database: Database,
        current: CurrentRollout,
        circuits: Circuits,
        configured: Collection[TransportName],
    ) -> None:
        """Work with these."""
        self._database = database
        self._current = current
        self._circuits = circuits
        self._configured = sorted(configured)

    def show(self) -> RolloutView:
        """Show what is set, from the row itself."""
        return self._view(self._current.refresh())

    def change(self, change: RolloutChange, *, actor: str) -> RolloutView:
        """Set something.

        Raises:
            TransportMissingError: a share would go nowhere.
            RolloutChangedError: it is not the version that the caller saw.
        """
        before = self._current.refresh()
        if change.version is not None and change.version != before.version:
            raise rows.RolloutChangedError(
                f"the roll-out is at version {before.version}, not {change.version}"
            )
        after = changed(before, change)
        self._check_configured(after)
        with self._database.begin() as session:
            written = rows.write(session, before, after, actor=actor, action="rollout.set")
        return self._view(self._current.know(written))

    def roll_back(self, reason: str, *, actor: str) -> RolloutView:
        """Take all jobs from the new side, or from the one that has least.

        Raises:
            NothingToRollBackError: all jobs go one way, and no other is tried.
            TransportMissingError: the side that would get them is not configured.
        """
        state = self._current.refresh()
        side = state.new_side or _lesser(state)
        if side is None:
            raise NothingToRollBackError("all jobs go one way, and no other is tried")
        self._check_configured(state.model_copy(update={"sqs_percent": percent_without(side)}))
        with self._database.begin() as session:
            written = roll_back(session, state, side, actor=actor, reason=reason)
        count_rollback(side, by="operator")
        return self._view(self._current.know(written))

    def compare(self, minutes: int) -> Comparison:
        """Hold both sides against each other."""
        state = self._current.refresh()
        since = datetime.now(UTC) - timedelta(minutes=minutes)
        with self._database.begin() as session:
            sqs, http = both_sides(session, state, TransportName.SQS, since=since)
            return Comparison(
                since=since,
                sqs_percent=state.sqs_percent,
                sqs=sqs,
                http=http,
                shadow=shadow_figures(session, since=since),
                verdict=verdict_of(session, state, self._circuits),
            )

    def shadow(self, job_id: str) -> ShadowView:
        """Show a copy.

        Raises:
            NotFoundError: none was made of that job.
        """
        with self._database.begin() as session:
            run = session.get(ShadowRun, job_id) if is_storable(job_id) else None
        if run is None:
            raise NotFoundError(f"no copy of a job {job_id[:100]!r} was sent")
        return ShadowView.of(run)

    def _view(self, state: RolloutState) -> RolloutView:
        return RolloutView(**dict(state), transports=self._configured)

    def _check_configured(self, state: RolloutState) -> None:
        needed = set()
        if state.sqs_percent > 0:
            needed.add(TransportName.SQS)
        if state.sqs_percent < ALL:
            needed.add(TransportName.HTTP)
        if state.shadow_percent > 0:
            needed |= set(TransportName)
        for name in sorted(needed - set(self._configured)):
            raise TransportMissingError(
                f"the {name} transport is not configured: set {_SETTINGS[name]} of the dispatcher"
            )


def _lesser(state: RolloutState) -> TransportName | None:
    if state.sqs_percent in {0, ALL}:
        return None
    return TransportName.SQS if state.sqs_percent <= ALL / 2 else TransportName.HTTP


def rollout_router(desk: RolloutDesk) -> APIRouter:
    """Make the routes."""
    router = APIRouter(prefix="/rollout", tags=["rollout"])

    @router.get("", responses=responses(UnavailableError))
    def show_rollout(_caller: Reader) -> RolloutView:
        """How jobs are divided between the transports, since when and by whom."""
        return desk.show()

    @router.put("", responses=responses(rows.RolloutChangedError, UnavailableError))
    def set_rollout(change: RolloutChange, caller: Admin) -> RolloutView:
        """Divide jobs anew; it works in every replica within two seconds.

        What is left out stays. With `version` it is refused where somebody else was quicker.
        """
        return desk.change(change, actor=audit.actor_of(caller))

    @router.post("/rollback", responses=responses(NothingToRollBackError, UnavailableError))
    def roll_back_rollout(caller: Admin, request: RollbackRequest | None = None) -> RolloutView:
        """Take all jobs from the new side at once.

        Those that wait for it go the other way now; those that it has and does not answer are
        asked for on the other side.
        """
        wanted = request or RollbackRequest()
        return desk.roll_back(wanted.reason, actor=audit.actor_of(caller))

    @router.get("/comparison", responses=responses(UnavailableError))
    def compare_sides(
        _caller: Reader,
        minutes: Annotated[int, Query(ge=1, le=_MAX_MINUTES)] = _DEFAULT_MINUTES,
    ) -> Comparison:
        """Both sides side by side, and what became of copies."""
        return desk.compare(minutes)

    @router.get("/shadow/{job_id}", responses=responses(NotFoundError, UnavailableError))
    def show_shadow(job_id: str, _caller: Reader) -> ShadowView:
        """One copy, and where its answer differs from the job's own."""
        return desk.shadow(job_id)

    return router
