"""The index of jobs that begin later, by when.

Built beside the traffic, because both versions write jobs meanwhile (requirement D5).
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_NAME = "ix_jobs_scheduled"


def upgrade() -> None:
    """Make it."""
    with op.get_context().autocommit_block():
        # One that was interrupted while it was built is there, and of no use.
        op.drop_index(_NAME, "jobs", if_exists=True, postgresql_concurrently=True)
        op.create_index(
            _NAME,
            "jobs",
            ["run_at", "id"],
            postgresql_where=sa.text("status = 'scheduled'"),
            postgresql_concurrently=True,
        )


def downgrade() -> None:
    """Go back."""
    with op.get_context().autocommit_block():
        op.drop_index(_NAME, "jobs", if_exists=True, postgresql_concurrently=True)
