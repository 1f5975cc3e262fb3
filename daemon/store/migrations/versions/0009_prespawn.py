"""Servers that bring one image to themselves at once do not stand in each other's way."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

ACTIVE = "state IN ('queued', 'running')"
BESIDE = "type NOT IN ('expire', 'prespawn', 'snapshot_delete')"


def upgrade() -> None:
    """Make the rules of one job at a time anew."""
    for name, when in (
        ("uq_jobs_change", f"{ACTIVE} AND {BESIDE} AND type != 'delete'"),
        ("uq_jobs_running", f"state = 'running' AND {BESIDE}"),
    ):
        where = sa.text(when)
        op.drop_index(name, "jobs")
        op.create_index(
            name,
            "jobs",
            ["container_id"],
            unique=True,
            sqlite_where=where,
            postgresql_where=where,
        )
