"""Alembic's entry: runs the migrations on the engine that `headrace_common.db.migrate` gives."""

from alembic import context

from headrace_common.db.models import Base

with context.config.attributes["engine"].connect() as connection:
    context.configure(
        connection=connection, target_metadata=Base.metadata, transaction_per_migration=True
    )
    with context.begin_transaction():
        context.run_migrations()
