"""User snapshots, and datasets that took over the snapshots of other generations."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

TEXT = sa.Text()
NUMBER = sa.BigInteger()  # of bytes, of a sequence, or of milliseconds since 1970
BESIDE = "type NOT IN ('expire', 'snapshot_delete')"
ACTIVE = "state IN ('queued', 'running')"


def upgrade() -> None:
    """Make the two tables; let jobs that only change a list run beside others."""
    op.create_table(
        "user_snapshots",
        _part_of("containers", "container_id"),
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("guid", TEXT, nullable=False),
        sa.Column("sequence", NUMBER, nullable=False),
        sa.Column("created_at", NUMBER, nullable=False),
        sa.Column("alias", TEXT, nullable=True),
        sa.Column("last_used_at", NUMBER, nullable=True),
        sa.Column("expires_at", NUMBER, nullable=True),
        sa.Column("inherited", sa.Boolean(), nullable=False),
        sa.Column("dropped", sa.Boolean(), nullable=False),
        sa.Column("referenced_bytes", NUMBER, nullable=False),
        sa.Column("unique_bytes", NUMBER, nullable=False),
        sa.Column("inconsistent_files", sa.Integer(), nullable=False),
    )
    op.create_table(
        "strata",
        _part_of("datasets", "dataset_id"),
        sa.Column("generation_id", TEXT, primary_key=True),
    )
    _indexes()


def _indexes() -> None:
    _unique(
        "uq_user_snapshots_name", "user_snapshots", ["container_id", "name"], "dropped IS false"
    )
    op.create_index("ix_user_snapshots_guid", "user_snapshots", ["guid"])
    op.create_index("ix_user_snapshots_expires", "user_snapshots", ["expires_at"])
    op.create_index("ix_strata_generation", "strata", ["generation_id"])
    for name, when in (
        ("uq_jobs_change", f"{ACTIVE} AND {BESIDE} AND type != 'delete'"),
        ("uq_jobs_running", f"state = 'running' AND {BESIDE}"),
    ):
        op.drop_index(name, "jobs")
        _unique(name, "jobs", ["container_id"], when)


def _part_of(table: str, name: str) -> sa.Column[str]:
    kept = sa.ForeignKey(f"{table}.id", ondelete="CASCADE")
    return sa.Column(name, TEXT, kept, primary_key=True)


def _unique(name: str, table: str, columns: list[str], when: str) -> None:
    where = sa.text(when)
    op.create_index(name, table, columns, unique=True, sqlite_where=where, postgresql_where=where)
