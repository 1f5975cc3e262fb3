"""The first schema.

A revision says what it did when it was written: it takes nothing from `schema.py`, which changes.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

TEXT = sa.Text()
NUMBER = sa.BigInteger()  # of bytes, of a sequence, or of milliseconds since 1970
SMALL = sa.Integer()
COUNTED = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
FLAG = sa.Boolean()
BYTES = sa.LargeBinary()
JSON = sa.JSON()


def upgrade() -> None:
    """Make all tables in an empty database."""
    _who()
    _containers()
    _work()
    _storage()
    _indexes()


def _who() -> None:
    op.create_table(
        "servers",
        _key("id"),
        _must("name", TEXT),
        _must("peer_address", TEXT),
        _must("peer_key", TEXT),
        _must("backend", TEXT),
        _must("domain", TEXT),
        _must("facts", JSON),
        _must("max_containers", SMALL),
        _must("total_bytes", NUMBER),
        _must("used_bytes", NUMBER),
        _must("available_bytes", NUMBER),
        _must("secret_fingerprint", TEXT),
        _must("sealing_fingerprint", TEXT),
        _must("created_at", NUMBER),
        _may("last_heartbeat_at", NUMBER),
    )
    op.create_table(
        "users",
        _key("id"),
        _must("banned", FLAG),
        _may("revoked_at", NUMBER),
        _must("created_at", NUMBER),
    )
    op.create_table(
        "projects",
        _key("id"),
        _of("users", "owner_id"),
        _must("name", TEXT),
        _must("alias", TEXT),
        _must("created_at", NUMBER),
    )


def _containers() -> None:
    op.create_table(
        "containers",
        _key("id"),
        _of("projects", "project_id"),
        _of("users", "owner_id"),
        _of_server(),
        _must("name", TEXT),
        _must("status", TEXT),
        _may("status_reason", TEXT),
        _may("source_container_id", TEXT),
        _may("source_snapshot", TEXT),
        _may("generation_id", TEXT),
        _may("taken_guid", TEXT),
        _may("command", JSON),
        _must("environment_vars", JSON),
        _must("resources", JSON),
        _may("container_image", TEXT),
        _may("container_image_id", TEXT),
        _may("color", TEXT),
        _may("comment", TEXT),
        _must("flags", JSON),
        _must("autostart", FLAG),
        _may("ssh_public_key", TEXT),
        _may("ssh_key_id", TEXT),
        _may("ssh_private_sealed", BYTES),
        _must("ssh_private_fetched", FLAG),
        _must("copy_firewall_rules", FLAG),
        _must("copy_network_rules", FLAG),
        _must("firewall_rules", JSON),
        _must("network_rules", JSON),
        _may("sync_schedule", TEXT),
        _may("exit_code", SMALL),
        _must("referenced_bytes", NUMBER),
        _must("unique_bytes", NUMBER),
        _must("created_at", NUMBER),
        _must("updated_at", NUMBER),
        _may("last_synced_at", NUMBER),
    )


def _work() -> None:
    op.create_table(
        "jobs",
        _key("id"),
        _must("type", TEXT),
        _must("state", TEXT),
        _must("container_id", TEXT),
        _must("server_id", TEXT),
        _must("user_id", TEXT),
        _must("sequence", NUMBER),
        _may("source_container_id", TEXT),
        _must("params", JSON),
        _must("checkpoint", JSON),
        _may("step", TEXT),
        _must("attempt", SMALL),
        _must("cancel_requested", FLAG),
        _must("progress", JSON),
        _may("result", JSON),
        _may("error", JSON),
        _may("not_before", NUMBER),
        _may("lease_until", NUMBER),
        _must("created_at", NUMBER),
        _may("started_at", NUMBER),
        _may("finished_at", NUMBER),
    )
    op.create_table(
        "events",
        sa.Column("id", COUNTED, primary_key=True),
        _must("at", NUMBER),
        _must("kind", TEXT),
        _may("container_id", TEXT),
        _may("job_id", TEXT),
        _must("data", JSON),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "counter",
        _key("name"),
        _must("value", NUMBER),
    )


def _storage() -> None:
    op.create_table(
        "datasets",
        _key("id"),
        _of_server(),
        _must("role", TEXT),
        _must("generation_id", TEXT),
        _must("path", TEXT),
        _may("container_id", TEXT),
        _may("job_id", TEXT),
        _must("ready", FLAG),
        _must("retired", FLAG),
        _must("trimmed", FLAG),
        _may("settled_guid", TEXT),
        _may("origin_guid", TEXT),
        _may("storage_name", TEXT),
        _may("rootfs", TEXT),
        _must("created_at", NUMBER),
    )
    op.create_table(
        "snapshots",
        _key("id"),
        _of_server(),
        _must("generation_id", TEXT),
        _must("container_id", TEXT),
        _must("job_id", TEXT),
        _must("sequence", NUMBER),
        _may("guid", TEXT),
        _may("taken_at", NUMBER),
    )
    op.create_table(
        "bases",
        _key("source_container_id"),
        _key("generation_id"),
        _of_server("holder", key=True),
        _of_server("peer", key=True),
        _must("guid", TEXT),
    )
    op.create_table(
        "holdings",
        _of_server("server_id", key=True),
        _key("job_id"),
    )
    op.create_table(
        "leases",
        _of_server("server_id", key=True),
        _key("generation_id"),
        _must("job_id", TEXT),
        _must("attempt", SMALL),
    )
    op.create_table(
        "unneeded",
        _of_server("server_id", key=True),
        _key("thing"),
        _must("since", NUMBER),
    )


def _indexes() -> None:
    for name, table, columns in (
        ("uq_servers_name", "servers", ["name"]),
        ("uq_projects_name", "projects", ["owner_id", "name"]),
        ("uq_containers_name", "containers", ["project_id", "name"]),
        ("uq_containers_ssh_key", "containers", ["ssh_key_id"]),
        ("uq_datasets_path", "datasets", ["server_id", "path"]),
    ):
        op.create_index(name, table, columns, unique=True)
    for name, when in (
        ("uq_jobs_change", "state IN ('queued', 'running') AND type != 'delete'"),
        ("uq_jobs_delete", "state IN ('queued', 'running') AND type = 'delete'"),
        ("uq_jobs_running", "state = 'running'"),
    ):
        where = sa.text(when)
        op.create_index(
            name,
            "jobs",
            ["container_id"],
            unique=True,
            sqlite_where=where,
            postgresql_where=where,
        )
    for name, table, columns in (
        ("ix_containers_server", "containers", ["server_id"]),
        ("ix_containers_source", "containers", ["source_container_id"]),
        ("ix_jobs_server", "jobs", ["server_id", "state", "sequence"]),
        ("ix_jobs_container", "jobs", ["container_id"]),
        ("ix_jobs_source", "jobs", ["source_container_id", "state"]),
        ("ix_jobs_finished", "jobs", ["finished_at"]),
        ("ix_events_at", "events", ["at"]),
        ("ix_datasets_container", "datasets", ["container_id"]),
        ("ix_snapshots_container", "snapshots", ["container_id", "generation_id"]),
        ("ix_snapshots_server", "snapshots", ["server_id"]),
    ):
        op.create_index(name, table, columns)


def _key(name: str) -> sa.Column[str]:
    return sa.Column(name, TEXT, primary_key=True)


def _must(name: str, kind: sa.types.TypeEngine[Any]) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


def _may(name: str, kind: sa.types.TypeEngine[Any]) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=True)


def _of(table: str, name: str) -> sa.Column[str]:
    return sa.Column(name, TEXT, sa.ForeignKey(f"{table}.id"), nullable=False)


def _of_server(name: str = "server_id", *, key: bool = False) -> sa.Column[str]:
    kept = sa.ForeignKey("servers.id", ondelete="CASCADE")
    return sa.Column(name, TEXT, kept, nullable=False, primary_key=key)
