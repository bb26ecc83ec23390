"""The tables. A job's row changes only through `headrace_common.jobs.JobStore`.

Statuses, kinds and lanes are text without database checks, so that the version before and
the version after can run side by side while a new value is rolled out (requirement D5).
"""

from datetime import datetime
from typing import Any, Final

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, SmallInteger, Text, func, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

_Json = dict[str, Any]


class Base(DeclarativeBase):
    """Base of all tables."""

    type_annotation_map = {
        datetime: TIMESTAMP(timezone=True),
        str: Text,
        _Json: JSONB,
        list[str]: ARRAY(Text),
    }


class Token(Base):
    """A reference item: a sentence or video that recordings imitate (A2)."""

    __tablename__ = "tokens"

    id: Mapped[str] = mapped_column(primary_key=True)
    title: Mapped[str | None]
    s3_textgrid_url: Mapped[str | None]
    s3_pitch_url: Mapped[str | None]
    meta: Mapped[_Json] = mapped_column("metadata", server_default=text("'{}'"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (Index("ix_tokens_created_at_id", "created_at", "id"),)


class Job(Base):
    """One piece of work, from its acceptance to its final state and until its retention ends."""

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    status: Mapped[str]
    progress: Mapped[int] = mapped_column(SmallInteger)
    message: Mapped[str]
    lane: Mapped[str]
    token_id: Mapped[str | None]
    created_by: Mapped[str | None] = mapped_column(comment="Id of the API key")
    input: Mapped[_Json] = mapped_column(server_default=text("'{}'"), comment="What to work on")
    meta: Mapped[_Json] = mapped_column("metadata", server_default=text("'{}'"))
    result: Mapped[_Json | None]
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    transport: Mapped[str | None] = mapped_column(comment="sqs or http, once it is decided")
    queue_message_id: Mapped[str | None]
    event_sequence: Mapped[int] = mapped_column(server_default=text("0"))
    deliveries: Mapped[int] = mapped_column(
        server_default=text("0"), comment="Times a worker took it up in its present stage"
    )
    trace: Mapped[_Json] = mapped_column(server_default=text("'{}'"), comment="W3C trace context")
    run: Mapped[int] = mapped_column(
        server_default=text("1"), comment="Counts up each time somebody asks to do it anew"
    )
    run_at: Mapped[datetime | None] = mapped_column(
        comment="When its client wanted it begun; while `scheduled` it waits until then"
    )
    retry_at: Mapped[datetime | None] = mapped_column(
        comment="Waits until then for its next try; set means that no message is under way"
    )
    waiting_for: Mapped[str | None] = mapped_column(comment="Dependency at fault it waits for")
    sent_at: Mapped[datetime | None] = mapped_column(
        comment="When an analysis server's side first took it, in this run"
    )
    discard_at: Mapped[datetime | None] = mapped_column(
        comment="Ended before it was accepted: from then on storage keeps nothing of it"
    )
    discarded_at: Mapped[datetime | None] = mapped_column(comment="When that was made sure")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    stage_entered_at: Mapped[datetime] = mapped_column(server_default=func.now())
    queued_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    retain_until: Mapped[datetime | None] = mapped_column(comment="Unset: kept for ever")

    __table_args__ = (
        Index("ix_jobs_created_at_id", "created_at", "id"),
        Index("ix_jobs_status_created_at_id", "status", "created_at", "id"),
        Index("ix_jobs_token_id_created_at", "token_id", "created_at"),
        Index("ix_jobs_kind_created_at_id", "kind", "created_at", "id"),
        Index("ix_jobs_lane_created_at_id", "lane", "created_at", "id"),
        # Holds all that the counts of the lanes need, so that they read no job.
        Index("ix_jobs_kind_status_lane", "kind", "status", "lane"),
        # Camera jobs wait in a stream, and in nobody's way.
        Index(
            "ix_jobs_waiting_audio",
            "lane",
            "queued_at",
            "id",
            postgresql_where=text("status = 'queued' AND kind = 'audio_analysis'"),
        ),
        Index(
            "ix_jobs_open_stage",
            "stage_entered_at",
            "id",
            postgresql_where=text("finished_at IS NULL"),
        ),
        Index("ix_jobs_retry_at", "retry_at", "id", postgresql_where=text("retry_at IS NOT NULL")),
        # Not with those that wait for a next try: any number may begin in a year.
        Index("ix_jobs_scheduled", "run_at", "id", postgresql_where=text("status = 'scheduled'")),
        Index(
            "ix_jobs_discard_at",
            "discard_at",
            postgresql_where=text("discard_at IS NOT NULL AND discarded_at IS NULL"),
        ),
        # Compares the two sides of a roll-out over the last minutes.
        Index(
            "ix_jobs_transport_finished_at",
            "transport",
            "finished_at",
            postgresql_where=text("transport IS NOT NULL"),
        ),
        Index(
            "ix_jobs_cameras_finished_at",
            "finished_at",
            "id",
            postgresql_where=text("kind = 'cctv_preprocess' AND finished_at IS NOT NULL"),
        ),
        Index(
            "ix_jobs_artifacts_finished_at",
            "finished_at",
            postgresql_where=text(
                "kind = 'audio_analysis' AND finished_at IS NOT NULL AND result ? 'artifacts'"
            ),
        ),
        Index(
            "ix_jobs_retain_until",
            "retain_until",
            postgresql_where=text("retain_until IS NOT NULL"),
        ),
    )


class JobEventRow(Base):
    """One entry of a job's timeline; never changed."""

    __tablename__ = "job_events"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    type: Mapped[str]
    status: Mapped[str]
    progress: Mapped[int] = mapped_column(SmallInteger)
    message: Mapped[str]
    data: Mapped[_Json] = mapped_column(server_default=text("'{}'"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


#: Begins the outcome of a report that was given up: a dead letter.
POISONED: Final = "poisoned: "


class InboxReport(Base):
    """A report of an analysis server, kept before anything is done with it (A10).

    A repetition with the same `dedup_key` adds to `deliveries` and nothing else.
    """

    __tablename__ = "webhook_inbox"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    dedup_key: Mapped[str] = mapped_column(unique=True)
    job_id: Mapped[str]
    source: Mapped[str] = mapped_column(comment="webhook, callback, sqs or stream")
    payload: Mapped[_Json]
    run: Mapped[int | None] = mapped_column(
        comment="Run of the job that was asked for it; unset: not told"
    )
    trace: Mapped[_Json] = mapped_column(server_default=text("'{}'"))
    deliveries: Mapped[int] = mapped_column(server_default=text("1"))
    attempts: Mapped[int] = mapped_column(
        server_default=text("0"), comment="Times that applying it was begun"
    )
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_received_at: Mapped[datetime] = mapped_column(server_default=func.now())
    applied_at: Mapped[datetime | None]
    outcome: Mapped[str | None] = mapped_column(comment="What applying it did")

    __table_args__ = (
        Index("ix_webhook_inbox_job_id", "job_id"),
        Index(
            "ix_webhook_inbox_unapplied", "received_at", postgresql_where=text("applied_at IS NULL")
        ),
    )


class ApiKey(Base):
    """A bearer credential; only its hash is stored."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True, comment="Public part of the key")
    name: Mapped[str]
    secret_hash: Mapped[str]
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class IdempotencyKey(Base):
    """What a request with an `Idempotency-Key` did, so that its repetition answers the same."""

    __tablename__ = "idempotency_keys"

    scope: Mapped[str] = mapped_column(primary_key=True, comment="API key id and route")
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str | None] = mapped_column(comment="SHA-256 of the payload, once known")
    job_id: Mapped[str | None]
    status_code: Mapped[int | None] = mapped_column(SmallInteger)
    response: Mapped[_Json | None]
    locked_until: Mapped[datetime]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (Index("ix_idempotency_keys_created_at", "created_at"),)


class AuditEntry(Base):
    """Who did what to the installation, and when; never changed."""

    __tablename__ = "audit_entries"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    actor: Mapped[str] = mapped_column(comment="Id of the API key, or a name of ours")
    action: Mapped[str] = mapped_column(comment="dead.replay, rollout.set, queue.pause ...")
    target: Mapped[str]
    details: Mapped[_Json] = mapped_column(server_default=text("'{}'"))

    __table_args__ = (
        Index("ix_audit_entries_at", "at", "id"),
        Index("ix_audit_entries_target", "target", "at"),
    )


class QueueControl(Base):
    """Whether a queue is worked off; one without a row is."""

    __tablename__ = "queue_controls"

    queue: Mapped[str] = mapped_column(
        primary_key=True, comment="Of a lane, or the stream of camera jobs"
    )
    paused: Mapped[bool]
    reason: Mapped[str | None]
    changed_by: Mapped[str]
    changed_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Rollout(Base):
    """How jobs are divided between the transports; one row, unset: as the environment says."""

    __tablename__ = "rollout"

    id: Mapped[int] = mapped_column(
        SmallInteger, primary_key=True, autoincrement=False, comment="Always 1"
    )
    sqs_percent: Mapped[float] = mapped_column(comment="0 to 100; the rest goes over HTTP")
    shadow_percent: Mapped[float] = mapped_column(
        server_default=text("0"), comment="Share that is sent to the other side too, to compare"
    )
    new_side: Mapped[str | None] = mapped_column(
        comment="sqs or http, the one that is tried; unset: none is"
    )
    rolled_back: Mapped[str | None] = mapped_column(
        comment="sqs or http, the one that all jobs were taken from"
    )
    auto_rollback: Mapped[bool] = mapped_column(server_default=text("true"))
    policy: Mapped[_Json] = mapped_column(
        server_default=text("'{}'"), comment="Margins of the automatic roll-back"
    )
    version: Mapped[int] = mapped_column(server_default=text("1"))
    reason: Mapped[str | None]
    changed_by: Mapped[str]
    changed_at: Mapped[datetime] = mapped_column(server_default=func.now())


class TransportOutcome(Base):
    """What became of attempts to send, counted by side and time slice for the comparison."""

    __tablename__ = "transport_outcomes"

    slice_at: Mapped[datetime] = mapped_column(primary_key=True)
    transport: Mapped[str] = mapped_column(primary_key=True)
    taken: Mapped[int] = mapped_column(server_default=text("0"))
    refused: Mapped[int] = mapped_column(server_default=text("0"))


class ShadowRun(Base):
    """A copy of a job that was sent to the other side, and how its answer compares."""

    __tablename__ = "shadow_runs"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    run: Mapped[int] = mapped_column(server_default=text("1"), comment="Of the job")
    transport: Mapped[str] = mapped_column(comment="The side that the copy went to")
    sent_at: Mapped[datetime | None]
    send_error: Mapped[str | None]
    status: Mapped[str | None] = mapped_column(comment="completed or failed, once it answered")
    result: Mapped[_Json | None]
    error_code: Mapped[str | None]
    answered_at: Mapped[datetime | None]
    same: Mapped[bool | None] = mapped_column(comment="Whether it equals the job's own answer")
    differences: Mapped[_Json | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        Index("ix_shadow_runs_created_at", "created_at"),
        Index(
            "ix_shadow_runs_artifacts_answered_at",
            "answered_at",
            postgresql_where=text("result ? 'artifacts'"),
        ),
        Index(
            "ix_shadow_runs_uncompared",
            "answered_at",
            postgresql_where=text(
                "answered_at IS NOT NULL AND same IS NULL AND differences IS NULL"
            ),
        ),
    )


class DeadLetter(Base):
    """A message that nobody could deal with, of whatever queue, kept until somebody decides."""

    __tablename__ = "dead_letters"

    id: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(comment="dramatiq, sqs, stream, reports or webhook")
    queue: Mapped[str] = mapped_column(comment="Where it was to be worked off")
    source_id: Mapped[str] = mapped_column(comment="Its id there")
    kind: Mapped[str] = mapped_column(comment="What it was: dispatch, stream_entry ...")
    job_id: Mapped[str | None]
    run: Mapped[int | None] = mapped_column(comment="Run of the job it belonged to, where told")
    fingerprint: Mapped[str] = mapped_column(comment="Same for letters with the same cause")
    code: Mapped[str]
    reason: Mapped[str]
    payload: Mapped[_Json]
    attempts: Mapped[int | None]
    state: Mapped[str] = mapped_column(
        server_default=text("'dead'"), comment="dead, replaying, replayed or dropped"
    )
    state_at: Mapped[datetime] = mapped_column(server_default=func.now())
    state_by: Mapped[str | None]
    outcome: Mapped[str | None] = mapped_column(comment="What the last decision came to")
    replays: Mapped[int] = mapped_column(server_default=text("0"))
    replay_id: Mapped[str | None] = mapped_column(comment="The replay it was last a part of")
    due_at: Mapped[datetime | None] = mapped_column(comment="Replayed then; set while replaying")
    at_source: Mapped[bool] = mapped_column(
        server_default=text("false"), comment="Whether it is still where it died, a stream"
    )
    died_at: Mapped[datetime]
    collected_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        Index("ix_dead_letters_source_source_id", "source", "queue", "source_id", unique=True),
        Index("ix_dead_letters_state_died_at", "state", "died_at", "id"),
        Index("ix_dead_letters_fingerprint", "fingerprint", "state"),
        Index("ix_dead_letters_job_id", "job_id"),
        Index("ix_dead_letters_due_at", "due_at", postgresql_where=text("state = 'replaying'")),
        Index(
            "ix_dead_letters_replay_id",
            "replay_id",
            "state",
            postgresql_where=text("replay_id IS NOT NULL"),
        ),
        Index(
            "ix_dead_letters_at_source",
            "queue",
            postgresql_where=text("at_source AND state IN ('replayed', 'dropped')"),
        ),
    )


class DirectUpload(Base):
    """A recording that a client sends straight to S3, part by part (A14)."""

    __tablename__ = "direct_uploads"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    bucket: Mapped[str]
    key: Mapped[str]
    upload_id: Mapped[str | None] = mapped_column(comment="S3's; unset until S3 gave one")
    size: Mapped[int] = mapped_column(BigInteger, comment="Bytes, as announced")
    part_bytes: Mapped[int]
    sha256: Mapped[str | None] = mapped_column(comment="Of the whole file, as announced")
    details: Mapped[_Json] = mapped_column(server_default=text("'{}'"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime] = mapped_column(comment="Abandoned after that")
    completed_at: Mapped[datetime | None]
    aborted_at: Mapped[datetime | None]

    __table_args__ = (
        Index(
            "ix_direct_uploads_expires_at",
            "expires_at",
            postgresql_where=text("completed_at IS NULL AND aborted_at IS NULL"),
        ),
    )


class Camera(Base):
    """A camera that jobs can name instead of its URL."""

    __tablename__ = "cameras"
    __table_args__ = (Index("ix_cameras_created_at_name", "created_at", "name"),)

    name: Mapped[str] = mapped_column(primary_key=True, comment="The cctvId of its jobs")
    hls: Mapped[str]
    region: Mapped[list[Any] | None] = mapped_column(
        JSONB(none_as_null=True),
        comment="Where the road is: polygons of [x, y], shares of width and height",
    )
    seconds: Mapped[float] = mapped_column(comment="Of a clip, where the job does not say")
    description: Mapped[str | None]
    created_by: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Calendar(Base):
    """Days on which the schedules that name it do not fire."""

    __tablename__ = "calendars"

    name: Mapped[str] = mapped_column(primary_key=True)
    description: Mapped[str | None]
    exceptions: Mapped[list[Any]] = mapped_column(
        JSONB, comment="Days: YYYY-MM-DD, MM-DD of every year, or {from, to}"
    )
    changed_by: Mapped[str]
    changed_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Schedule(Base):
    """When something is to be put on its way, and how.

    `next_fire_at` names the next firing: the nominal time, which is unique in `firings`. It comes
    due at `next_due_at`, which is later by the jitter. Both are unset while it is paused, and once
    nothing is left to fire.
    """

    __tablename__ = "schedules"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    description: Mapped[str | None]
    trigger: Mapped[_Json] = mapped_column(comment="As the API takes it, with `type`")
    time_zone: Mapped[str] = mapped_column(server_default=text("'UTC'"))
    start_at: Mapped[datetime | None]
    end_at: Mapped[datetime | None]
    jitter_seconds: Mapped[float] = mapped_column(server_default=text("0"))
    calendar: Mapped[str | None] = mapped_column(ForeignKey("calendars.name"))
    target: Mapped[str] = mapped_column(comment="Name of a TargetContract")
    params: Mapped[_Json] = mapped_column(server_default=text("'{}'"))
    target_key: Mapped[str] = mapped_column(comment="What limits are counted by: camera:NAME")
    misfire: Mapped[str] = mapped_column(server_default=text("'once'"), comment="once, all or skip")
    misfire_grace_seconds: Mapped[float] = mapped_column(
        server_default=text("60"), comment="Later than that is missed"
    )
    misfire_limit: Mapped[int] = mapped_column(
        server_default=text("100"), comment="Most that `all` makes up for, the latest"
    )
    overlap: Mapped[str] = mapped_column(
        server_default=text("'skip'"), comment="allow, skip or cancel"
    )
    paused: Mapped[bool] = mapped_column(server_default=text("false"))
    paused_reason: Mapped[str | None]
    built_in: Mapped[bool] = mapped_column(
        server_default=text("false"), comment="House-keeping: is changed, never deleted"
    )
    defaults: Mapped[_Json | None] = mapped_column(
        JSONB(none_as_null=True),
        comment="Of a built-in one, as the software last set it; what differs is an operator's",
    )
    next_fire_at: Mapped[datetime | None]
    next_due_at: Mapped[datetime | None]
    last_fire_at: Mapped[datetime | None] = mapped_column(comment="Nominal, of the last firing")
    version: Mapped[int] = mapped_column(server_default=text("1"), comment="Counts changes")
    created_by: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    changed_by: Mapped[str]
    changed_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        Index("ix_schedules_next_due_at", "next_due_at", "id"),
        Index("ix_schedules_target_name", "target", "name"),
        Index("ix_schedules_calendar", "calendar"),
    )


class Firing(Base):
    """One firing of a schedule, and its own outbox entry: `pending` until its message is sent."""

    __tablename__ = "firings"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    schedule_id: Mapped[str] = mapped_column(ForeignKey("schedules.id", ondelete="CASCADE"))
    fire_at: Mapped[datetime] = mapped_column(comment="Nominal time, unique for the schedule")
    due_at: Mapped[datetime] = mapped_column(comment="With jitter")
    origin: Mapped[str] = mapped_column(comment="schedule, misfire or manual")
    epoch: Mapped[int] = mapped_column(BigInteger, comment="Of the leader that recorded it")
    target: Mapped[str]
    target_key: Mapped[str]
    params: Mapped[_Json] = mapped_column(server_default=text("'{}'"))
    overlap: Mapped[str]
    state: Mapped[str] = mapped_column(server_default=text("'pending'"))
    reason: Mapped[str | None] = mapped_column(comment="Why it was skipped, waits or failed")
    missed: Mapped[int] = mapped_column(
        server_default=text("0"), comment="Earlier firings that it stands for, which were missed"
    )
    message_id: Mapped[str | None]
    tries: Mapped[int] = mapped_column(server_default=text("0"), comment="Times it was sent")
    job_id: Mapped[str | None] = mapped_column(comment="That it began")
    job_run: Mapped[int | None]
    result: Mapped[_Json | None] = mapped_column(JSONB(none_as_null=True))
    trace: Mapped[_Json] = mapped_column(server_default=text("'{}'"))
    fired_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    sent_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_firings_schedule_id_fire_at", "schedule_id", "fire_at", unique=True),
        Index("ix_firings_pending", "due_at", "id", postgresql_where=text("state = 'pending'")),
        # Those that count for limits and overlaps, and are looked after until they end.
        Index(
            "ix_firings_open",
            "target_key",
            "state",
            postgresql_where=text("finished_at IS NULL"),
        ),
        Index(
            "ix_firings_open_schedule_id",
            "schedule_id",
            postgresql_where=text("finished_at IS NULL"),
        ),
        Index(
            "ix_firings_open_job_id",
            "job_id",
            postgresql_where=text("finished_at IS NULL AND job_id IS NOT NULL"),
        ),
        Index(
            "ix_firings_finished_at",
            "finished_at",
            postgresql_where=text("finished_at IS NOT NULL"),
        ),
    )


class TargetLimit(Base):
    """How many firings of a target may run at once; one without a row has no limit."""

    __tablename__ = "target_limits"

    target: Mapped[str] = mapped_column(
        primary_key=True, comment="Name of a contract, or the key of one target: camera:NAME"
    )
    max_running: Mapped[int]
    changed_by: Mapped[str]
    changed_at: Mapped[datetime] = mapped_column(server_default=func.now())


class SchedulerLeader(Base):
    """Who drives the schedules; one row. The lock decides who leads, the epoch in which term."""

    __tablename__ = "scheduler_leader"

    id: Mapped[int] = mapped_column(
        SmallInteger, primary_key=True, autoincrement=False, comment="Always 1"
    )
    epoch: Mapped[int] = mapped_column(BigInteger, comment="Counts terms")
    holder: Mapped[str] = mapped_column(comment="Name of the process")
    elected_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    heartbeat_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
