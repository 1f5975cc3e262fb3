"""Proxy aliases: names under which programs in containers are reached."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

TEXT = sa.Text()


def upgrade() -> None:
    """Make the table."""
    gone_with = sa.ForeignKey("containers.id", ondelete="CASCADE")
    op.create_table(
        "proxy_aliases",
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("project_id", TEXT, sa.ForeignKey("projects.id"), nullable=False),
        sa.Column("container_id", TEXT, gone_with, nullable=False),
        sa.Column("alias", TEXT, nullable=False),
        sa.Column("program", TEXT, nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("target_path", TEXT, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
    )
    op.create_index("ix_proxy_aliases_container", "proxy_aliases", ["container_id"])
    op.create_index("uq_proxy_aliases", "proxy_aliases", ["project_id", "alias"], unique=True)
