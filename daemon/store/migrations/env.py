"""What alembic runs: the revisions, on the transaction that `migrate.py` has opened."""

from alembic import context

from daemon.store import schema

context.configure(
    connection=context.config.attributes["connection"], target_metadata=schema.metadata
)
context.run_migrations()
