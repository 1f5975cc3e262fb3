"""Idempotency: the keys that clients gave with their POSTs, and what was answered."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the table."""
    of_user = sa.ForeignKey("users.id", ondelete="CASCADE")
    op.create_table(
        "idempotency",
        sa.Column("user_id", sa.Text(), of_user, primary_key=True),
        sa.Column("method", sa.Text(), primary_key=True),
        sa.Column("path", sa.Text(), primary_key=True),
        sa.Column("key", sa.Text(), primary_key=True),
        sa.Column("request_hash", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=True),
        sa.Column("answer", sa.JSON(), nullable=True),
    )
    op.create_index("ix_idempotency_created_at", "idempotency", ["created_at"])
