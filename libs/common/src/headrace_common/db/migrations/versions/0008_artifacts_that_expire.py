"""The indices of what has stored artefacts, which house-keeping removes after their retention.

Built beside the traffic, because both versions write results meanwhile (requirement D5).
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_INDICES = (
    (
        "ix_jobs_artifacts_finished_at",
        "jobs",
        "finished_at",
        "kind = 'audio_analysis' AND finished_at IS NOT NULL AND result ? 'artifacts'",
    ),
    (
        "ix_shadow_runs_artifacts_answered_at",
        "shadow_runs",
        "answered_at",
        "result ? 'artifacts'",
    ),
)


def upgrade() -> None:
    """Make them."""
    with op.get_context().autocommit_block():
        for name, table, column, condition in _INDICES:
            # One that was interrupted while it was built is there, and of no use.
            op.drop_index(name, table, if_exists=True, postgresql_concurrently=True)
            op.create_index(
                name,
                table,
                [column],
                postgresql_where=sa.text(condition),
                postgresql_concurrently=True,
            )


def downgrade() -> None:
    """Go back."""
    with op.get_context().autocommit_block():
        for name, table, _, _ in _INDICES:
            op.drop_index(name, table, if_exists=True, postgresql_concurrently=True)
