"""Schedules, their firings and their leader; calendars, cameras, limits; jobs that begin later.

Only adds, with defaults, so that the version before goes on writing (requirement D5).
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them."""
    op.create_table(
        "calendars",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column(
            "exceptions",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="Days: YYYY-MM-DD, MM-DD of every year, or {from, to}",
        ),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.Column(
            "changed_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "cameras",
        sa.Column("name", sa.Text(), nullable=False, comment="The cctvId of its jobs"),
        sa.Column("hls", sa.Text(), nullable=False),
        sa.Column(
            "region",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="Where the road is: polygons of [x, y], shares of width and height",
        ),
        sa.Column(
            "seconds", sa.Double(), nullable=False, comment="Of a clip, where the job does not say"
        ),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("created_by", sa.Text(), nullable=True),
        sa.Column(
            "created_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_index("ix_cameras_created_at_name", "cameras", ["created_at", "name"], unique=False)
    op.create_table(
        "scheduler_leader",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False, comment="Always 1"),
        sa.Column("epoch", sa.BigInteger(), nullable=False, comment="Counts terms"),
        sa.Column("holder", sa.Text(), nullable=False, comment="Name of the process"),
        sa.Column(
            "elected_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column(
            "heartbeat_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "target_limits",
        sa.Column(
            "target",
            sa.Text(),
            nullable=False,
            comment="Name of a contract, or the key of one target: camera:NAME",
        ),
        sa.Column("max_running", sa.Integer(), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.Column(
            "changed_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("target"),
    )
    op.create_table(
        "schedules",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column(
            "trigger",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="As the API takes it, with `type`",
        ),
        sa.Column("time_zone", sa.Text(), server_default=sa.text("'UTC'"), nullable=False),
        sa.Column("start_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("end_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("jitter_seconds", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("calendar", sa.Text(), nullable=True),
        sa.Column("target", sa.Text(), nullable=False, comment="Name of a TargetContract"),
        sa.Column(
            "params",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column(
            "target_key",
            sa.Text(),
            nullable=False,
            comment="What limits are counted by: camera:NAME",
        ),
        sa.Column(
            "misfire",
            sa.Text(),
            server_default=sa.text("'once'"),
            nullable=False,
            comment="once, all or skip",
        ),
        sa.Column(
            "misfire_grace_seconds",
            sa.Double(),
            server_default=sa.text("60"),
            nullable=False,
            comment="Later than that is missed",
        ),
        sa.Column(
            "misfire_limit",
            sa.Integer(),
            server_default=sa.text("100"),
            nullable=False,
            comment="Most that `all` makes up for, the latest",
        ),
        sa.Column(
            "overlap",
            sa.Text(),
            server_default=sa.text("'skip'"),
            nullable=False,
            comment="allow, skip or cancel",
        ),
        sa.Column("paused", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("paused_reason", sa.Text(), nullable=True),
        sa.Column(
            "built_in",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="House-keeping: is changed, never deleted",
        ),
        sa.Column(
            "defaults",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="Of a built-in one, as the software last set it; what differs is an operator's",
        ),
        sa.Column("next_fire_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("next_due_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column(
            "last_fire_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="Nominal, of the last firing",
        ),
        sa.Column(
            "version",
            sa.Integer(),
            server_default=sa.text("1"),
            nullable=False,
            comment="Counts changes",
        ),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.Column(
            "changed_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["calendar"],
            ["calendars.name"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_index("ix_schedules_calendar", "schedules", ["calendar"], unique=False)
    op.create_index("ix_schedules_next_due_at", "schedules", ["next_due_at", "id"], unique=False)
    op.create_index("ix_schedules_target_name", "schedules", ["target", "name"], unique=False)
    op.create_table(
        "firings",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("schedule_id", sa.Text(), nullable=False),
        sa.Column(
            "fire_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=False,
            comment="Nominal time, unique for the schedule",
        ),
        sa.Column(
            "due_at", postgresql.TIMESTAMP(timezone=True), nullable=False, comment="With jitter"
        ),
        sa.Column("origin", sa.Text(), nullable=False, comment="schedule, misfire or manual"),
        sa.Column(
            "epoch", sa.BigInteger(), nullable=False, comment="Of the leader that recorded it"
        ),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("target_key", sa.Text(), nullable=False),
        sa.Column(
            "params",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column("overlap", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'pending'"), nullable=False),
        sa.Column(
            "reason", sa.Text(), nullable=True, comment="Why it was skipped, waits or failed"
        ),
        sa.Column(
            "missed",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="Earlier firings that it stands for, which were missed",
        ),
        sa.Column("message_id", sa.Text(), nullable=True),
        sa.Column(
            "tries",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="Times it was sent",
        ),
        sa.Column("job_id", sa.Text(), nullable=True, comment="That it began"),
        sa.Column("job_run", sa.Integer(), nullable=True),
        sa.Column("result", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column(
            "trace",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column(
            "fired_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("sent_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("started_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("finished_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["schedule_id"], ["schedules.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_firings_finished_at",
        "firings",
        ["finished_at"],
        unique=False,
        postgresql_where=sa.text("finished_at IS NOT NULL"),
    )
    op.create_index(
        "ix_firings_open",
        "firings",
        ["target_key", "state"],
        unique=False,
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_index(
        "ix_firings_open_schedule_id",
        "firings",
        ["schedule_id"],
        unique=False,
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_index(
        "ix_firings_open_job_id",
        "firings",
        ["job_id"],
        unique=False,
        postgresql_where=sa.text("finished_at IS NULL AND job_id IS NOT NULL"),
    )
    op.create_index(
        "ix_firings_pending",
        "firings",
        ["due_at", "id"],
        unique=False,
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index(
        "ix_firings_schedule_id_fire_at", "firings", ["schedule_id", "fire_at"], unique=True
    )
    op.add_column(
        "jobs",
        sa.Column(
            "run_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="When its client wanted it begun; while `scheduled` it waits until then",
        ),
    )


def downgrade() -> None:
    """Go back."""
    op.drop_column("jobs", "run_at")
    op.drop_index("ix_firings_schedule_id_fire_at", table_name="firings")
    op.drop_index(
        "ix_firings_pending", table_name="firings", postgresql_where=sa.text("state = 'pending'")
    )
    op.drop_index(
        "ix_firings_open_schedule_id",
        table_name="firings",
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.drop_index(
        "ix_firings_open_job_id",
        table_name="firings",
        postgresql_where=sa.text("finished_at IS NULL AND job_id IS NOT NULL"),
    )
    op.drop_index(
        "ix_firings_open", table_name="firings", postgresql_where=sa.text("finished_at IS NULL")
    )
    op.drop_index(
        "ix_firings_finished_at",
        table_name="firings",
        postgresql_where=sa.text("finished_at IS NOT NULL"),
    )
    op.drop_table("firings")
    op.drop_index("ix_schedules_target_name", table_name="schedules")
    op.drop_index("ix_schedules_next_due_at", table_name="schedules")
    op.drop_index("ix_schedules_calendar", table_name="schedules")
    op.drop_table("schedules")
    op.drop_table("target_limits")
    op.drop_table("scheduler_leader")
    op.drop_index("ix_cameras_created_at_name", table_name="cameras")
    op.drop_table("cameras")
    op.drop_table("calendars")
