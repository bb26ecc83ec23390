"""How letters are shown: without secrets, and with what a replay would do."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field, JsonValue

from headrace_common.db import DeadLetter, Job
from headrace_common.telemetry.secrets import deeply_without_url_values, without_url_values
from headrace_dispatcher.dead.letter import Kind, Source, State, read_object, unpack_text
from headrace_dispatcher.dead.plan import Action, JobFacts, LetterFacts, Plan, plan_replay
from headrace_dispatcher.dead.queries import LetterGroup, LetterOfJob


class LetterView(BaseModel):
    """A dead letter."""

    id: str
    source: Source
    queue: str = Field(
        description="Where it was to be worked off", examples=["audio-analysis-queue"]
    )
    kind: Kind
    source_id: str = Field(description="Its id at its source")
    job_id: str | None
    job_status: str | None = Field(description="Of its job, now; null where there is none")
    run: int | None = Field(description="Run of the job that it belonged to, where it tells")
    fingerprint: str = Field(description="Letters with the same cause share it")
    code: str = Field(description="Why it died, for programs", examples=["max_receives"])
    reason: str = Field(description="Why it died, for people")
    attempts: int | None = Field(description="Times that it was tried, where that is known")
    obsolete: bool = Field(description="A replay would do nothing: its job is done, for instance")
    state: State
    state_at: datetime
    state_by: str | None = Field(description="Who decided: the id of an API key")
    outcome: str | None = Field(description="What the last decision came to")
    replays: int
    replay_id: str | None
    due_at: datetime | None = Field(description="When it is replayed, while it is `replaying`")
    died_at: datetime
    collected_at: datetime


class PlanView(BaseModel):
    """What a replay would do now."""

    action: Action
    reason: str


class LetterDetail(LetterView):
    """A dead letter with all that is known of it."""

    payload: dict[str, JsonValue] = Field(description="What it said, without secrets")
    replay: PlanView


class LetterList(BaseModel):
    """A page of letters, those that died last first."""

    letters: list[LetterView]
    next_cursor: str | None = Field(description="`cursor` of the next page; null on the last")


class GroupView(BaseModel):
    """Letters with one cause."""

    fingerprint: str
    count: int
    jobs: int = Field(description="How many jobs they are of")
    first_died_at: datetime
    last_died_at: datetime
    sources: list[Source]
    queues: list[str]
    example: LetterView = Field(description="The one that died last")

    @classmethod
    def of(cls, group: LetterGroup) -> "GroupView":
        """Show a group."""
        return cls(
            fingerprint=group.fingerprint,
            count=group.count,
            jobs=group.jobs,
            first_died_at=group.first_died_at,
            last_died_at=group.last_died_at,
            sources=[Source(source) for source in sorted(group.sources)],
            queues=sorted(group.queues),
            example=show(group.example),
        )


class GroupList(BaseModel):
    """Causes, those with most letters first."""

    groups: list[GroupView]


def show(found: LetterOfJob) -> LetterView:
    """Show a letter as lists have it."""
    letter, job = found
    return LetterView.model_validate(_shown(letter, job, _plan(letter, job)))


def show_detail(found: LetterOfJob) -> LetterDetail:
    """Show a letter with all that is known of it."""
    letter, job = found
    plan = _plan(letter, job)
    return LetterDetail.model_validate(
        {
            **_shown(letter, job, plan),
            "payload": shown_payload(letter.source, letter.payload),
            "replay": {"action": plan.action, "reason": plan.reason},
        }
    )


def shown_payload(source: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a letter said, readable and without secrets.

    Whatever is in the query of a URL may let somebody in: a callback's token, a camera's key.
    """
    shown = dict(payload)
    if source == Source.DRAMATIQ:
        shown["message"] = _readable(payload["message"])
    elif source == Source.SQS:
        shown["body"] = _readable(payload["body"])
    elif "binary" in payload:
        shown["binary"] = [[_text(name), _text(value)] for name, value in payload["binary"]]
    cleaned: dict[str, Any] = deeply_without_url_values(shown)
    return cleaned


def _plan(letter: DeadLetter, job: Job | None) -> Plan:
    facts = LetterFacts.of(letter.kind, letter.job_id, letter.run)
    return plan_replay(facts, JobFacts.of_row(job))


def _shown(letter: DeadLetter, job: Job | None, plan: Plan) -> dict[str, Any]:
    names = LetterView.model_fields.keys() - {"job_status", "obsolete"}
    return {
        **{name: getattr(letter, name) for name in names},
        "reason": without_url_values(letter.reason),
        "outcome": without_url_values(letter.outcome) if letter.outcome else None,
        "job_status": job.status if job else None,
        "obsolete": plan.is_obsolete,
    }


def _readable(packed: Mapping[str, Any]) -> JsonValue:
    text = _text(packed)
    return read_object(text) or text


def _text(packed: Mapping[str, Any]) -> str:
    return unpack_text(packed).decode(errors="replace")
