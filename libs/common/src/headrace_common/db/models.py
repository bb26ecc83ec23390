"""The tables. A job's row changes only through `headrace_common.jobs.JobStore`.

Statuses, kinds and lanes are text without database checks, so that the version before and
the version after can run side by side while a new value is rolled out (requirement D5).
"""

from datetime import datetime
from typing import Any

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
