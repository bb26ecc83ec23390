"""What was found where, once everything is quiet: plain values, on which the checks decide."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from headrace_common.artifact_sets import VerificationReport


@dataclass(frozen=True)
class JobFact:
    """A row of `jobs`."""

    id: str
    kind: str
    status: str
    progress: int
    run: int
    lane: str
    token_id: str | None
    input: dict[str, Any]
    result: dict[str, Any] | None
    error_code: str | None
    event_sequence: int
    discard_at: datetime | None
    run_at: datetime | None

    @property
    def was_accepted(self) -> bool:
        """Whether it got beyond its upload."""
        return self.discard_at is None and self.status != "uploading"


@dataclass(frozen=True)
class EventFact:
    """A row of `job_events`."""

    job_id: str
    sequence: int
    type: str
    status: str
    progress: int
    data: dict[str, Any]
    created_at: datetime

    @property
    def is_ignored(self) -> bool:
        """Whether it only notes what came too late."""
        return self.type == "ignored"


@dataclass(frozen=True)
class ReportFact:
    """A row of `webhook_inbox`."""

    id: int
    job_id: str
    source: str
    payload: dict[str, Any]
    applied: bool
    outcome: str | None


@dataclass(frozen=True)
class LetterFact:
    """A row of `dead_letters`."""

    id: str
    source: str
    queue: str
    job_id: str | None
    state: str
    reason: str


@dataclass(frozen=True)
class DirectFact:
    """A row of `direct_uploads`."""

    job_id: str
    key: str
    upload_id: str | None
    completed: bool
    aborted: bool
    expired: bool


@dataclass(frozen=True)
class ObjectFact:
    """An object in S3, and its content where it is a result."""

    key: str
    size: int
    etag: str


@dataclass(frozen=True)
class SetFact:
    """A folder of artefacts in Swift.

    Attributes:
        folder: path with a slash at its end.
        names: what is in it.
        report: what its verification says; None while it has no process_meta.json.
        source: URL that process_meta.json says was looked at.
    """

    folder: str
    camera: str
    job_id: str
    names: frozenset[str]
    report: VerificationReport | None = None
    source: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it says of itself that it is whole."""
        return self.report is not None


@dataclass(frozen=True)
class Facts:
    """Everything.

    Attributes:
        jobs: by id.
        events: of each job in order.
        reports: of the inbox.
        letters: dead ones, in whatever state.
        direct: uploads straight to S3.
        references: keys of the files that tokens and jobs name.
        objects: in S3, by key.
        documents: `analysis.json` of each completed job, by job id.
        multiparts: uploads under way in S3: key and upload id.
        sets: in Swift.
        strays: paths in Swift that belong to no set.
        messages: how many lie where none should, by place.
    """

    jobs: Mapping[str, JobFact] = field(default_factory=dict)
    events: Mapping[str, list[EventFact]] = field(default_factory=dict)
    reports: list[ReportFact] = field(default_factory=list)
    letters: list[LetterFact] = field(default_factory=list)
    direct: list[DirectFact] = field(default_factory=list)
    references: frozenset[str] = frozenset()
    objects: Mapping[str, ObjectFact] = field(default_factory=dict)
    documents: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    multiparts: list[tuple[str, str]] = field(default_factory=list)
    sets: list[SetFact] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    messages: Mapping[str, int] = field(default_factory=dict)
