"""The index of places in a lane holds audio jobs only.

Camera jobs wait in a stream, not in a lane, so that they must not count as being ahead. Built beside
the traffic, because the version before writes jobs meanwhile (requirement D5); until it is gone
it finds places slowly.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_OLD = ("ix_jobs_waiting", "status = 'queued'")
_NEW = ("ix_jobs_waiting_audio", "status = 'queued' AND kind = 'audio_analysis'")


def upgrade() -> None:
    """Make the new index, and drop the one that it replaces."""
    _name_sources("webhook, callback, sqs or stream")
    _replace(_OLD, _NEW)


def downgrade() -> None:
    """Go back."""
    _name_sources("webhook, callback or sqs")
    _replace(_NEW, _OLD)


def _name_sources(sources: str) -> None:
    op.alter_column("webhook_inbox", "source", comment=sources, existing_type=sa.Text())


def _replace(old: tuple[str, str], new: tuple[str, str]) -> None:
    with op.get_context().autocommit_block():
        # One that was interrupted while it was built is there, and of no use.
        op.drop_index(new[0], "jobs", if_exists=True, postgresql_concurrently=True)
        op.create_index(
            new[0],
            "jobs",
            ["lane", "queued_at", "id"],
            postgresql_where=sa.text(new[1]),
            postgresql_concurrently=True,
        )
        op.drop_index(old[0], "jobs", if_exists=True, postgresql_concurrently=True)
