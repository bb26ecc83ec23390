"""Runs and retries of jobs; roll-out, dead letters, direct uploads, paused queues, audit trail.

Only adds, with defaults, so that the version before goes on writing (requirement D5).
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them."""
    op.create_table(
        "audit_entries",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column(
            "at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "actor", sa.Text(), nullable=False, comment="Id of the API key, or a name of ours"
        ),
        sa.Column(
            "action", sa.Text(), nullable=False, comment="dead.replay, rollout.set, queue.pause ..."
        ),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column(
            "details",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_audit_entries_at", "audit_entries", ["at", "id"], unique=False)
    op.create_index("ix_audit_entries_target", "audit_entries", ["target", "at"], unique=False)
    op.create_table(
        "dead_letters",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column(
            "source", sa.Text(), nullable=False, comment="dramatiq, sqs, stream, reports or webhook"
        ),
        sa.Column("queue", sa.Text(), nullable=False, comment="Where it was to be worked off"),
        sa.Column("source_id", sa.Text(), nullable=False, comment="Its id there"),
        sa.Column(
            "kind", sa.Text(), nullable=False, comment="What it was: dispatch, stream_entry ..."
        ),
        sa.Column("job_id", sa.Text(), nullable=True),
        sa.Column(
            "run",
            sa.Integer(),
            nullable=True,
            comment="Run of the job it belonged to, where told",
        ),
        sa.Column(
            "fingerprint", sa.Text(), nullable=False, comment="Same for letters with the same cause"
        ),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=True),
        sa.Column(
            "state",
            sa.Text(),
            server_default=sa.text("'dead'"),
            nullable=False,
            comment="dead, replaying, replayed or dropped",
        ),
        sa.Column(
            "state_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("state_by", sa.Text(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True, comment="What the last decision came to"),
        sa.Column("replays", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "replay_id", sa.Text(), nullable=True, comment="The replay it was last a part of"
        ),
        sa.Column(
            "due_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="Replayed then; set while replaying",
        ),
        sa.Column(
            "at_source",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="Whether it is still where it died, a stream",
        ),
        sa.Column("died_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column(
            "collected_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_dead_letters_fingerprint", "dead_letters", ["fingerprint", "state"], unique=False
    )
    op.create_index("ix_dead_letters_job_id", "dead_letters", ["job_id"], unique=False)
    op.create_index(
        "ix_dead_letters_due_at",
        "dead_letters",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("state = 'replaying'"),
    )
    op.create_index(
        "ix_dead_letters_replay_id",
        "dead_letters",
        ["replay_id", "state"],
        unique=False,
        postgresql_where=sa.text("replay_id IS NOT NULL"),
    )
    op.create_index(
        "ix_dead_letters_at_source",
        "dead_letters",
        ["queue"],
        unique=False,
        postgresql_where=sa.text("at_source AND state IN ('replayed', 'dropped')"),
    )
    op.create_index(
        "ix_dead_letters_source_source_id",
        "dead_letters",
        ["source", "queue", "source_id"],
        unique=True,
    )
    op.create_index(
        "ix_dead_letters_state_died_at", "dead_letters", ["state", "died_at", "id"], unique=False
    )
    op.create_table(
        "queue_controls",
        sa.Column(
            "queue", sa.Text(), nullable=False, comment="Of a lane, or the stream of camera jobs"
        ),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.Column(
            "changed_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("queue"),
    )
    op.create_table(
        "rollout",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False, comment="Always 1"),
        sa.Column(
            "sqs_percent", sa.Double(), nullable=False, comment="0 to 100; the rest goes over HTTP"
        ),
        sa.Column(
            "shadow_percent",
            sa.Double(),
            server_default=sa.text("0"),
            nullable=False,
            comment="Share that is sent to the other side too, to compare",
        ),
        sa.Column(
            "new_side",
            sa.Text(),
            nullable=True,
            comment="sqs or http, the one that is tried; unset: none is",
        ),
        sa.Column(
            "rolled_back",
            sa.Text(),
            nullable=True,
            comment="sqs or http, the one that all jobs were taken from",
        ),
        sa.Column("auto_rollback", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column(
            "policy",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="Margins of the automatic roll-back",
        ),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.Column(
            "changed_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "transport_outcomes",
        sa.Column("slice_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("transport", sa.Text(), nullable=False),
        sa.Column("taken", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("refused", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("slice_at", "transport"),
    )
    op.create_table(
        "direct_uploads",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("bucket", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("upload_id", sa.Text(), nullable=True, comment="S3's; unset until S3 gave one"),
        sa.Column("size", sa.BigInteger(), nullable=False, comment="Bytes, as announced"),
        sa.Column("part_bytes", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=True, comment="Of the whole file, as announced"),
        sa.Column(
            "details",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column(
            "created_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "expires_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=False,
            comment="Abandoned after that",
        ),
        sa.Column("completed_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("aborted_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id"),
    )
    op.create_index(
        "ix_direct_uploads_expires_at",
        "direct_uploads",
        ["expires_at"],
        unique=False,
        postgresql_where=sa.text("completed_at IS NULL AND aborted_at IS NULL"),
    )
    op.create_table(
        "shadow_runs",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column(
            "run", sa.Integer(), server_default=sa.text("1"), nullable=False, comment="Of the job"
        ),
        sa.Column("transport", sa.Text(), nullable=False, comment="The side that the copy went to"),
        sa.Column("sent_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("send_error", sa.Text(), nullable=True),
        sa.Column(
            "status", sa.Text(), nullable=True, comment="completed or failed, once it answered"
        ),
        sa.Column("result", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("answered_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column(
            "same", sa.Boolean(), nullable=True, comment="Whether it equals the job's own answer"
        ),
        sa.Column("differences", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column(
            "created_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id"),
    )
    op.create_index("ix_shadow_runs_created_at", "shadow_runs", ["created_at"], unique=False)
    op.create_index(
        "ix_shadow_runs_uncompared",
        "shadow_runs",
        ["answered_at"],
        unique=False,
        postgresql_where=sa.text(
            "answered_at IS NOT NULL AND same IS NULL AND differences IS NULL"
        ),
    )
    op.add_column(
        "jobs",
        sa.Column(
            "run",
            sa.Integer(),
            server_default=sa.text("1"),
            nullable=False,
            comment="Counts up each time somebody asks to do it anew",
        ),
    )
    op.add_column(
        "jobs",
        sa.Column(
            "retry_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="Waits until then for its next try; set means that no message is under way",
        ),
    )
    op.add_column(
        "jobs",
        sa.Column(
            "waiting_for", sa.Text(), nullable=True, comment="Dependency at fault it waits for"
        ),
    )
    op.add_column(
        "jobs",
        sa.Column(
            "sent_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="When an analysis server's side first took it, in this run",
        ),
    )
    op.add_column(
        "jobs",
        sa.Column(
            "discard_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="Ended before it was accepted: from then on storage keeps nothing of it",
        ),
    )
    op.add_column(
        "jobs",
        sa.Column(
            "discarded_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="When that was made sure",
        ),
    )
    op.add_column(
        "webhook_inbox",
        sa.Column(
            "run",
            sa.Integer(),
            nullable=True,
            comment="Run of the job that was asked for it; unset: not told",
        ),
    )


def downgrade() -> None:
    """Go back."""
    op.drop_column("webhook_inbox", "run")
    op.drop_column("jobs", "discarded_at")
    op.drop_column("jobs", "discard_at")
    op.drop_column("jobs", "sent_at")
    op.drop_column("jobs", "waiting_for")
    op.drop_column("jobs", "retry_at")
    op.drop_column("jobs", "run")
    op.drop_index(
        "ix_shadow_runs_uncompared",
        table_name="shadow_runs",
        postgresql_where=sa.text(
            "answered_at IS NOT NULL AND same IS NULL AND differences IS NULL"
        ),
    )
    op.drop_index("ix_shadow_runs_created_at", table_name="shadow_runs")
    op.drop_table("shadow_runs")
    op.drop_index(
        "ix_direct_uploads_expires_at",
        table_name="direct_uploads",
        postgresql_where=sa.text("completed_at IS NULL AND aborted_at IS NULL"),
    )
    op.drop_table("direct_uploads")
    op.drop_table("transport_outcomes")
    op.drop_table("rollout")
    op.drop_table("queue_controls")
    for name in ("at_source", "replay_id", "due_at", "state_died_at"):
        op.drop_index(f"ix_dead_letters_{name}", table_name="dead_letters")
    op.drop_index("ix_dead_letters_source_source_id", table_name="dead_letters")
    op.drop_index("ix_dead_letters_job_id", table_name="dead_letters")
    op.drop_index("ix_dead_letters_fingerprint", table_name="dead_letters")
    op.drop_table("dead_letters")
    op.drop_index("ix_audit_entries_target", table_name="audit_entries")
    op.drop_index("ix_audit_entries_at", table_name="audit_entries")
    op.drop_table("audit_entries")
