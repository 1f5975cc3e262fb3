"""The tables, and how values stand in their columns.

A table has exactly the columns that its dataclass in `daemon.model` has fields (`rows.py` relies
on that). Where a row hangs on a server, it goes with it. What outlives a container (its jobs,
datasets and snapshots) names it without a foreign key.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    and_,
)
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import TypeEngine

from daemon.model import BESIDE, JobState, JobType, Role, Status

REVISION = "0005"
"""The newest file of `migrations/versions`; a catalogue with another one is refused."""

ACTIVE = (JobState.QUEUED, JobState.RUNNING)
"""The states of a job that has not ended."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class UtcTime(TypeDecorator[datetime]):
    """An aware time, kept as whole milliseconds since 1970."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else (value - _EPOCH) // _MILLISECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None else _EPOCH + value * _MILLISECOND


class Word(TypeDecorator[StrEnum]):
    """A member of an enum, kept as its text."""

    impl = Text
    cache_ok = True

    def __init__(self, words: type[StrEnum]) -> None:
        super().__init__()
        self.words = words

    def process_bind_param(self, value: StrEnum | None, dialect: Dialect) -> str | None:
        return None if value is None else self.words(value).value

    def process_result_value(self, value: str | None, dialect: Dialect) -> StrEnum | None:
        return None if value is None else self.words(value)


JSON_OR_NULL = JSON(none_as_null=True)


class JsonTuple(TypeDecorator[tuple[object, ...]]):
    """A tuple of JSON values."""

    impl = JSON_OR_NULL
    cache_ok = True

    def process_result_value(
        self, value: list[object] | None, dialect: Dialect
    ) -> tuple[object, ...] | None:
        return None if value is None else tuple(value)


Kind = type[TypeEngine[Any]] | TypeEngine[Any]

# SQLite counts up only what it calls INTEGER.
_COUNTED = BigInteger().with_variant(Integer, "sqlite")


def _must(name: str, kind: Kind) -> Column[Any]:
    return Column(name, kind, nullable=False)


def _may(name: str, kind: Kind) -> Column[Any]:
    return Column(name, kind, nullable=True)


def _key(name: str = "id") -> Column[str]:
    return Column(name, Text, primary_key=True)


def _of(table: str, name: str, *, key: bool = False) -> Column[str]:
    """A reference that keeps the row that it names."""
    return Column(name, Text, ForeignKey(f"{table}.id"), nullable=False, primary_key=key)


def _of_server(name: str = "server_id", *, key: bool = False) -> Column[str]:
    """A reference to a server whose removal takes this row with it."""
    kept = ForeignKey("servers.id", ondelete="CASCADE")
    return Column(name, Text, kept, nullable=False, primary_key=key)


def _part_of(table: str, name: str) -> Column[str]:
    """A reference, in the key, to the row that this one is a part of and goes with."""
    kept = ForeignKey(f"{table}.id", ondelete="CASCADE")
    return Column(name, Text, kept, primary_key=True)


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
    _key(),
    _must("name", Text),
    _must("peer_address", Text),
    _must("peer_key", Text),
    _must("backend", Text),
    _must("domain", Text),
    _must("facts", JSON_OR_NULL),
    _must("max_containers", Integer),
    _must("total_bytes", BigInteger),
    _must("used_bytes", BigInteger),
    _must("available_bytes", BigInteger),
    _must("secret_fingerprint", Text),
    _must("sealing_fingerprint", Text),
    _must("created_at", UtcTime),
    _may("last_heartbeat_at", UtcTime),
)

users = Table(
    "users",
    metadata,
    _key(),
    _must("banned", Boolean),
    _may("revoked_at", UtcTime),
    _must("created_at", UtcTime),
)

projects = Table(
    "projects",
    metadata,
    _key(),
    _of("users", "owner_id"),
    _must("name", Text),
    _must("alias", Text),
    _must("created_at", UtcTime),
)

containers = Table(
    "containers",
    metadata,
    _key(),
    _of("projects", "project_id"),
    _of("users", "owner_id"),
    _of_server(),
    _must("name", Text),
    _must("status", Word(Status)),
    _may("status_reason", Text),
    _may("source_container_id", Text),
    _may("source_snapshot", Text),
    _may("generation_id", Text),
    _may("taken_guid", Text),
    _may("command", JsonTuple),
    _must("environment_vars", JSON_OR_NULL),
    _must("resources", JSON_OR_NULL),
    _may("container_image", Text),
    _may("container_image_id", Text),
    _may("color", Text),
    _may("comment", Text),
    _must("flags", JSON_OR_NULL),
    _must("autostart", Boolean),
    _may("ssh_public_key", Text),
    _may("ssh_key_id", Text),
    _may("ssh_private_sealed", LargeBinary),
    _must("ssh_private_fetched", Boolean),
    _must("copy_firewall_rules", Boolean),
    _must("copy_network_rules", Boolean),
    _must("firewall_rules", JsonTuple),
    _must("network_rules", JsonTuple),
    _may("sync_schedule", Text),
    _may("exit_code", Integer),
    _must("referenced_bytes", BigInteger),
    _must("unique_bytes", BigInteger),
    _must("created_at", UtcTime),
    _must("updated_at", UtcTime),
    _may("last_synced_at", UtcTime),
)

jobs = Table(
    "jobs",
    metadata,
    _key(),
    _must("type", Word(JobType)),
    _must("state", Word(JobState)),
    _must("container_id", Text),
    _must("server_id", Text),
    _must("user_id", Text),
    _must("sequence", BigInteger),
    _may("source_container_id", Text),
    _must("params", JSON_OR_NULL),
    _must("checkpoint", JSON_OR_NULL),
    _may("step", Text),
    _must("attempt", Integer),
    _must("cancel_requested", Boolean),
    _must("progress", JSON_OR_NULL),
    _may("result", JSON_OR_NULL),
    _may("error", JSON_OR_NULL),
    _may("not_before", UtcTime),
    _may("lease_until", UtcTime),
    _must("created_at", UtcTime),
    _may("started_at", UtcTime),
    _may("finished_at", UtcTime),
)

events = Table(
    "events",
    metadata,
    Column("id", _COUNTED, primary_key=True, autoincrement=True),
    _must("at", UtcTime),
    _must("kind", Text),
    _may("container_id", Text),
    _may("job_id", Text),
    _may("user_id", Text),
    _must("data", JSON_OR_NULL),
    sqlite_autoincrement=True,  # the id of a purged event is never given again
)

datasets = Table(
    "datasets",
    metadata,
    _key(),
    _of_server(),
    _must("role", Word(Role)),
    _must("generation_id", Text),
    _must("path", Text),
    _may("container_id", Text),
    _may("job_id", Text),
    _must("ready", Boolean),
    _must("retired", Boolean),
    _must("trimmed", Boolean),
    _may("settled_guid", Text),
    _may("origin_guid", Text),
    _may("storage_name", Text),
    _may("rootfs", Text),
    _must("created_at", UtcTime),
)

snapshots = Table(
    "snapshots",
    metadata,
    _key(),
    _of_server(),
    _must("generation_id", Text),
    _must("container_id", Text),
    _must("job_id", Text),
    _must("sequence", BigInteger),
    _may("guid", Text),
    _may("taken_at", UtcTime),
)

user_snapshots = Table(
    "user_snapshots",
    metadata,
    _part_of("containers", "container_id"),
    _key(),
    _must("name", Text),
    _must("guid", Text),
    _must("sequence", BigInteger),
    _must("created_at", UtcTime),
    _may("alias", Text),
    _may("last_used_at", UtcTime),
    _may("expires_at", UtcTime),
    _must("inherited", Boolean),
    _must("dropped", Boolean),
    _must("referenced_bytes", BigInteger),
    _must("unique_bytes", BigInteger),
    _must("inconsistent_files", Integer),
)

looks = Table(
    "looks",
    metadata,
    _part_of("containers", "container_id"),
    _may("asked_at", UtcTime),
    _may("looked_at", UtcTime),
    _may("written_at", UtcTime),
)

idempotency = Table(
    "idempotency",
    metadata,
    _part_of("users", "user_id"),
    _key("method"),
    _key("path"),
    _key("key"),
    _must("request_hash", Text),
    _must("created_at", UtcTime),
    _may("job_id", Text),
    _may("answer", JSON_OR_NULL),
    Index(None, "created_at"),
)

strata = Table("strata", metadata, _part_of("datasets", "dataset_id"), _key("generation_id"))

bases = Table(
    "bases",
    metadata,
    _key("source_container_id"),
    _key("generation_id"),
    _of_server("holder", key=True),
    _of_server("peer", key=True),
    _must("guid", Text),
)

holdings = Table("holdings", metadata, _of_server(key=True), _key("job_id"))

leases = Table(
    "leases",
    metadata,
    _of_server(key=True),
    _key("generation_id"),
    _must("job_id", Text),
    _must("attempt", Integer),
)

unneeded = Table(
    "unneeded",
    metadata,
    _of_server(key=True),
    _key("thing"),
    _must("since", UtcTime),
)

counter = Table("counter", metadata, _key("name"), _must("value", BigInteger))


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
