"""Looks: when containers' live filesystems changed, and who has asked to know it now."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the table; of containers from before, nothing is known but their record's change."""
    of_container = sa.ForeignKey("containers.id", ondelete="CASCADE")
    op.create_table(
        "looks",
        sa.Column("container_id", sa.Text(), of_container, primary_key=True),
        sa.Column("asked_at", sa.BigInteger(), nullable=True),
        sa.Column("looked_at", sa.BigInteger(), nullable=True),
        sa.Column("written_at", sa.BigInteger(), nullable=True),
    )
