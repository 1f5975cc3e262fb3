"""The tables.

A table has exactly the columns that its dataclass in `daemon.model` has fields (`rows.py` relies
on that). Where a row hangs on a server, it goes with it. What outlives a container (its jobs,
datasets and snapshots) names it without a foreign key.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    and_,
)
from sqlalchemy.sql.elements import ColumnElement

from daemon.model import BESIDE, JobState, JobType, Role, Status
from daemon.store.columns import (
    COUNTED,
    JSON_OR_NULL,
    JsonTuple,
    UtcTime,
    Word,
    may,
    must,
    of,
    of_server,
    part_of,
    primary,
    with_its,
)

REVISION = "0009"
"""The newest file of `migrations/versions`; a catalogue with another one is refused."""

ACTIVE = (JobState.QUEUED, JobState.RUNNING)
"""The states of a job that has not ended."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

servers = Table(
    "servers",
    metadata,
    primary(),
    must("name", Text),
    must("peer_address", Text),
    must("peer_key", Text),
    must("backend", Text),
    must("domain", Text),
    must("facts", JSON_OR_NULL),
    must("max_containers", Integer),
    must("total_bytes", BigInteger),
    must("used_bytes", BigInteger),
    must("available_bytes", BigInteger),
    must("secret_fingerprint", Text),
    must("sealing_fingerprint", Text),
    must("created_at", UtcTime),
    may("last_heartbeat_at", UtcTime),
)

users = Table(
    "users",
    metadata,
    primary(),
    must("banned", Boolean),
    may("revoked_at", UtcTime),
    must("balance_cents", BigInteger),
    must("created_at", UtcTime),
)

projects = Table(
    "projects",
    metadata,
    primary(),
    of("users", "owner_id"),
    must("name", Text),
    must("alias", Text),
    must("created_at", UtcTime),
)

containers = Table(
    "containers",
    metadata,
    primary(),
    of("projects", "project_id"),
    of("users", "owner_id"),
    of_server(),
    must("name", Text),
    must("status", Word(Status)),
    may("status_reason", Text),
    may("source_container_id", Text),
    may("source_snapshot", Text),
    may("generation_id", Text),
    may("taken_guid", Text),
    may("command", JsonTuple),
    must("environment_vars", JSON_OR_NULL),
    must("resources", JSON_OR_NULL),
    may("container_image", Text),
    may("container_image_id", Text),
    may("color", Text),
    may("comment", Text),
    must("flags", JSON_OR_NULL),
    must("autostart", Boolean),
    may("ssh_public_key", Text),
    may("ssh_key_id", Text),
    may("ssh_private_sealed", LargeBinary),
    must("ssh_private_fetched", Boolean),
    must("copy_firewall_rules", Boolean),
    must("copy_network_rules", Boolean),
    must("firewall_rules", JsonTuple),
    must("network_rules", JsonTuple),
    may("sync_schedule", Text),
    may("exit_code", Integer),
    must("referenced_bytes", BigInteger),
    must("unique_bytes", BigInteger),
    must("created_at", UtcTime),
    must("updated_at", UtcTime),
    may("last_synced_at", UtcTime),
)

jobs = Table(
    "jobs",
    metadata,
    primary(),
    must("type", Word(JobType)),
    must("state", Word(JobState)),
    must("container_id", Text),
    must("server_id", Text),
    must("user_id", Text),
    must("sequence", BigInteger),
    may("source_container_id", Text),
    must("params", JSON_OR_NULL),
    must("checkpoint", JSON_OR_NULL),
    may("step", Text),
    must("attempt", Integer),
    must("cancel_requested", Boolean),
    must("progress", JSON_OR_NULL),
    may("result", JSON_OR_NULL),
    may("error", JSON_OR_NULL),
    may("not_before", UtcTime),
    may("lease_until", UtcTime),
    must("created_at", UtcTime),
    may("started_at", UtcTime),
    may("finished_at", UtcTime),
)

events = Table(
    "events",
    metadata,
    Column("id", COUNTED, primary_key=True, autoincrement=True),
    must("at", UtcTime),
    must("kind", Text),
    may("container_id", Text),
    may("job_id", Text),
    may("user_id", Text),
    must("data", JSON_OR_NULL),
    sqlite_autoincrement=True,  # the id of a purged event is never given again
)

datasets = Table(
    "datasets",
    metadata,
    primary(),
    of_server(),
    must("role", Word(Role)),
    must("generation_id", Text),
    must("path", Text),
    may("container_id", Text),
    may("job_id", Text),
    must("ready", Boolean),
    must("retired", Boolean),
    must("trimmed", Boolean),
    may("settled_guid", Text),
    may("origin_guid", Text),
    may("storage_name", Text),
    may("rootfs", Text),
    must("created_at", UtcTime),
)

snapshots = Table(
    "snapshots",
    metadata,
    primary(),
    of_server(),
    must("generation_id", Text),
    must("container_id", Text),
    must("job_id", Text),
    must("sequence", BigInteger),
    may("guid", Text),
    may("taken_at", UtcTime),
)

user_snapshots = Table(
    "user_snapshots",
    metadata,
    part_of("containers", "container_id"),
    primary(),
    must("name", Text),
    must("guid", Text),
    must("sequence", BigInteger),
    must("created_at", UtcTime),
    may("alias", Text),
    may("last_used_at", UtcTime),
    may("expires_at", UtcTime),
    must("inherited", Boolean),
    must("dropped", Boolean),
    must("referenced_bytes", BigInteger),
    must("unique_bytes", BigInteger),
    must("inconsistent_files", Integer),
)

looks = Table(
    "looks",
    metadata,
    part_of("containers", "container_id"),
    may("asked_at", UtcTime),
    may("looked_at", UtcTime),
    may("written_at", UtcTime),
)

schedules = Table(
    "schedules",
    metadata,
    part_of("containers", "container_id"),
    must("next_sync_at", UtcTime),
    Index("ix_schedules_next", "next_sync_at"),
)

idempotency = Table(
    "idempotency",
    metadata,
    part_of("users", "user_id"),
    primary("method"),
    primary("path"),
    primary("key"),
    must("request_hash", Text),
    must("created_at", UtcTime),
    may("job_id", Text),
    may("answer", JSON_OR_NULL),
    Index(None, "created_at"),
)

strata = Table("strata", metadata, part_of("datasets", "dataset_id"), primary("generation_id"))

bases = Table(
    "bases",
    metadata,
    primary("source_container_id"),
    primary("generation_id"),
    of_server("holder", key=True),
    of_server("peer", key=True),
    must("guid", Text),
)

holdings = Table("holdings", metadata, of_server(key=True), primary("job_id"))

leases = Table(
    "leases",
    metadata,
    of_server(key=True),
    primary("generation_id"),
    must("job_id", Text),
    must("attempt", Integer),
)

unneeded = Table(
    "unneeded",
    metadata,
    of_server(key=True),
    primary("thing"),
    must("since", UtcTime),
)

images = Table(
    "images",
    metadata,
    primary(),
    of_server(),
    *(must(name, Text) for name in ("alias", "image_name", "architecture", "os", "release")),
    *(must(name, Text) for name in ("variant", "serial", "description")),
    must("tags", JsonTuple),
    must("size_bytes", BigInteger),
    must("price_cents", BigInteger),
    must("public", Boolean),
    must("prespawn", Boolean),
    may("guid", Text),
    must("rating_sum", BigInteger),
    must("rating_count", BigInteger),
    must("created_at", UtcTime),
)

icons = Table("icons", metadata, part_of("images", "image_id"), must("png", LargeBinary))

owned_images = Table(
    "owned_images",
    metadata,
    part_of("users", "user_id"),
    part_of("images", "image_id"),
    must("paid_cents", BigInteger),
    must("created_at", UtcTime),
)

ratings = Table(
    "ratings",
    metadata,
    part_of("users", "user_id"),
    part_of("images", "image_id"),
    must("rating", Integer),
)

proxy_aliases = Table(
    "proxy_aliases",
    metadata,
    primary(),
    of("projects", "project_id"),
    with_its("containers", "container_id"),
    must("alias", Text),
    must("program", Text),
    must("index", Integer),
    must("target_path", Text),
    must("created_at", UtcTime),
    Index("ix_proxy_aliases_container", "container_id"),
)

counter = Table("counter", metadata, primary("name"), must("value", BigInteger))


def _unique(name: str, rule: str, *columns: Column[Any]) -> None:
    """A unique rule of all rows."""
    Index(name, *columns, unique=True, info={"rule": rule})


def _one_job(name: str, when: ColumnElement[bool]) -> None:
    """At most one job of a container is so."""
    Index(
        name,
        jobs.c.container_id,
        unique=True,
        info={"rule": "job"},
        sqlite_where=when,
        postgresql_where=when,
    )


_unique("uq_servers_name", "server_name", servers.c.name)
_unique("uq_projects_name", "project_name", projects.c.owner_id, projects.c.name)
_unique("uq_containers_name", "container_name", containers.c.project_id, containers.c.name)
_unique("uq_containers_ssh_key", "ssh_key", containers.c.ssh_key_id)
_unique("uq_images_alias", "image_alias", images.c.alias)
_unique("uq_proxy_aliases", "proxy_alias", proxy_aliases.c.project_id, proxy_aliases.c.alias)
_unique("uq_datasets_path", "dataset_path", datasets.c.server_id, datasets.c.path)

Index(
    "uq_user_snapshots_name",
    user_snapshots.c.container_id,
    user_snapshots.c.name,
    unique=True,
    info={"rule": "snapshot_name"},
    sqlite_where=user_snapshots.c.dropped.is_(False),
    postgresql_where=user_snapshots.c.dropped.is_(False),
)

# One job of a container at a time, one more queued behind it only where that is its delete.
_active = jobs.c.state.in_(ACTIVE)
_alone = jobs.c.type.not_in(sorted(BESIDE))
_one_job("uq_jobs_change", and_(_active, _alone, jobs.c.type != JobType.DELETE))
_one_job("uq_jobs_delete", and_(_active, jobs.c.type == JobType.DELETE))
_one_job("uq_jobs_running", and_(jobs.c.state == JobState.RUNNING, _alone))

Index("ix_containers_server", containers.c.server_id)
Index("ix_containers_source", containers.c.source_container_id)
Index("ix_jobs_server", jobs.c.server_id, jobs.c.state, jobs.c.sequence)
Index("ix_jobs_container", jobs.c.container_id)
Index("ix_jobs_source", jobs.c.source_container_id, jobs.c.state)
Index("ix_jobs_finished", jobs.c.finished_at)
Index("ix_events_at", events.c.at)
Index("ix_events_user", events.c.user_id, events.c.id)
Index("ix_datasets_container", datasets.c.container_id)
Index("ix_snapshots_container", snapshots.c.container_id, snapshots.c.generation_id)
Index("ix_snapshots_server", snapshots.c.server_id)
Index("ix_user_snapshots_guid", user_snapshots.c.guid)
Index("ix_user_snapshots_expires", user_snapshots.c.expires_at)
Index("ix_strata_generation", strata.c.generation_id)
