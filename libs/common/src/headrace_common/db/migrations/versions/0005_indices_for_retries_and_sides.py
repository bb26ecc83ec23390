"""Indices of the jobs table for retries, leftovers of uploads, and the sides of a roll-out.

Built beside the traffic.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_INDICES = (
    ("ix_jobs_retry_at", ["retry_at", "id"], "retry_at IS NOT NULL"),
    ("ix_jobs_discard_at", ["discard_at"], "discard_at IS NOT NULL AND discarded_at IS NULL"),
    ("ix_jobs_transport_finished_at", ["transport", "finished_at"], "transport IS NOT NULL"),
    (
        "ix_jobs_cameras_finished_at",
        ["finished_at", "id"],
        "kind = 'cctv_preprocess' AND finished_at IS NOT NULL",
    ),
)


def upgrade() -> None:
    """Make them."""
    with op.get_context().autocommit_block():
        for name, columns, where in _INDICES:
            # One that was interrupted while it was built is there, and of no use.
            op.drop_index(name, "jobs", if_exists=True, postgresql_concurrently=True)
            op.create_index(
                name,
                "jobs",
                columns,
                postgresql_where=sa.text(where),
                postgresql_concurrently=True,
            )


def downgrade() -> None:
    """Go back."""
    with op.get_context().autocommit_block():
        for name, _, _ in _INDICES:
            op.drop_index(name, "jobs", if_exists=True, postgresql_concurrently=True)
