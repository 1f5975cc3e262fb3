"""Schedules: when the next sync of each container that has one begins."""

import time

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the table. A schedule from before has missed all of its due times: its container is
    synced once, as after any time without a daemon."""
    of_container = sa.ForeignKey("containers.id", ondelete="CASCADE")
    op.create_table(
        "schedules",
        sa.Column("container_id", sa.Text(), of_container, primary_key=True),
        sa.Column("next_sync_at", sa.BigInteger(), nullable=False),
    )
    op.create_index("ix_schedules_next", "schedules", ["next_sync_at"])
    kept = sa.text(
        "INSERT INTO schedules (container_id, next_sync_at)"
        " SELECT id, :now FROM containers WHERE sync_schedule IS NOT NULL"
    )
    op.execute(kept.bindparams(now=time.time_ns() // 1_000_000))
