"""Catalogue values -> the JSON objects of the contract. Pure: whatever a view needs is given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from daemon.model import (
    Container,
    DatasetRow,
    Job,
    JobState,
    Json,
    Project,
    ProxyAlias,
    Role,
    Server,
    UserSnapshot,
)

FLAGS = ("ai", "hoody_kit", "dev_kit", "ramdisk", "prespawn", "is_default")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a container's object shows of other rows. `source` is None where the container is no
    copy or its source is gone, `source_written_at` when that's filesystem was last found to have
    changed; `job` is the unfinished one."""

    project: Project
    server: Server
    source: Container | None = None
    source_written_at: datetime | None = None
    job: Job | None = None


def time_text(instant: datetime) -> str:
    """UTC ISO 8601 with milliseconds and Z."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def optional_time(instant: datetime | None) -> str | None:
    """The same, for what may not have happened yet."""
    return None if instant is None else time_text(instant)


def container_view(container: Container, around: Surroundings) -> Json:
    """The container object: the copy page's, and what API.md adds to it."""
    project, server = around.project, around.server
    host = f"{container.project_id}-{container.id}-ssh"
    return {
        "id": container.id,
        "name": container.name,
        "status": container.status.value,
        "source_container_id": container.source_container_id,
        "project_id": container.project_id,
        "project_alias": project.alias,
        "server_id": container.server_id,
        "server_name": server.name,
        "subserver_name": container.name,
        "server": _server_facts(server),
        "ssh_hostname": f"{host}.{server.name}.{server.domain}",
        "color": container.color,
        "container_image": container.container_image,
        "container_image_id": container.container_image_id,
        **{flag: container.flags.get(flag, False) for flag in FLAGS},
        "autostart": container.autostart,
        "command": None if container.command is None else list(container.command),
        "environment_vars": container.environment_vars,
        "resources": container.resources,
        "volumes": {},
        "ssh_public_key": container.ssh_public_key,
        "comment": container.comment,
        "copy_firewall_rules": container.copy_firewall_rules,
        "copy_network_rules": container.copy_network_rules,
        "created_at": time_text(container.created_at),
        "updated_at": time_text(container.updated_at),
        "realm_ids": [],
        "status_reason": container.status_reason,
        "exit_code": container.exit_code,
        "disk_used_bytes": container.referenced_bytes,
        "last_synced_at": optional_time(container.last_synced_at),
        "sync_state": sync_state(container, around),
        "source_snapshot": container.source_snapshot,
        "current_job_id": around.job.id if around.job else None,
        "sync_schedule": container.sync_schedule,
    }


def sync_state(container: Container, around: Surroundings) -> str | None:
    """How a copy stands to its source's filesystem: `current`, `behind` or `orphaned`; None for
    no copy. Of a source from before such changes were noted, its record's are all there is."""
    if container.source_container_id is None:
        return None
    if around.source is None:
        return "orphaned"
    synced_at = container.last_synced_at
    written_at = around.source_written_at or around.source.updated_at
    return "behind" if synced_at is None or written_at > synced_at else "current"


def snapshot_view(snapshot: UserSnapshot) -> Json:
    """A snapshot: the snapshots page's object, and what API.md adds to it. Only a filesystem is
    ever in it, never the state of processes."""
    return {
        "name": snapshot.name,
        "alias": snapshot.alias,
        "created_at": time_text(snapshot.created_at),
        "last_used_at": optional_time(snapshot.last_used_at),
        "expires_at": optional_time(snapshot.expires_at),
        "stateful": False,
        "size": snapshot.referenced_bytes,
        "guid": snapshot.guid,
        "inherited": snapshot.inherited,
        "unique_bytes": snapshot.unique_bytes,
        "inconsistent_files": snapshot.inconsistent_files,
    }


def container_event_view(container: Container, *, deleted: bool) -> Json:
    """What an event tells of a container: its record's own fields, no other rows'."""
    return {
        "id": container.id,
        "name": container.name,
        "status": "deleted" if deleted else container.status.value,
        "status_reason": container.status_reason,
        "project_id": container.project_id,
        "server_id": container.server_id,
        "source_container_id": container.source_container_id,
        "exit_code": container.exit_code,
        "updated_at": time_text(container.updated_at),
        "last_synced_at": optional_time(container.last_synced_at),
    }


def job_view(job: Job) -> Json:
    """A job as API.md 3 shows it."""
    return {
        "id": job.id,
        "type": job.type.value,
        "state": job.state.value,
        "step": job.step,
        "container_id": job.container_id,
        "source_container_id": job.source_container_id,
        "server_id": job.server_id,
        "attempt": job.attempt,
        "cancel_requested": job.cancel_requested,
        "created_at": time_text(job.created_at),
        "started_at": optional_time(job.started_at),
        "finished_at": optional_time(job.finished_at),
        "progress": _progress(job),
        "result": job.result,
        "error": job.error,
    }


def project_view(project: Project) -> Json:
    """A project."""
    return {
        "id": project.id,
        "name": project.name,
        "alias": project.alias,
        "owner_id": project.owner_id,
        "created_at": time_text(project.created_at),
    }


def proxy_alias_view(alias: ProxyAlias) -> Json:
    """A proxy alias."""
    return {
        "id": alias.id,
        "project_id": alias.project_id,
        "container_id": alias.container_id,
        "alias": alias.alias,
        "program": alias.program,
        "index": alias.index,
        "target_path": alias.target_path,
        "created_at": time_text(alias.created_at),
    }


def server_view(server: Server, *, online: bool, live_containers: int, for_admin: bool) -> Json:
    """A server; its address is for admins, null for others."""
    return {
        "id": server.id,
        **_server_facts(server),
        "backend": server.backend,
        "online": online,
        "live_containers": live_containers,
        "max_containers": server.max_containers,
        "storage": {
            "total_bytes": server.total_bytes,
            "used_bytes": server.used_bytes,
            "available_bytes": server.available_bytes,
        },
        "peer_address": server.peer_address if for_admin else None,
        "last_heartbeat_at": optional_time(server.last_heartbeat_at),
        "created_at": time_text(server.created_at),
    }


def storage_view(
    container: Container, server: Server, datasets: Sequence[DatasetRow], *, for_admin: bool
) -> Json:
    """Where a container's filesystem is; names and paths are for admins, null for others."""
    generations = [row for row in datasets if row.role is Role.GENERATION]
    live = next((row for row in generations if row.id == container.generation_id), None)
    return {
        "backend": server.backend,
        "dataset": live.storage_name if live and for_admin else None,
        "rootfs": live.rootfs if live and for_admin else None,
        "generation": container.generation_id,
        "generations": len(generations),
        "referenced_bytes": container.referenced_bytes,
        "unique_bytes": container.unique_bytes,
        "origin_guid": live.origin_guid if live else None,
    }


def _server_facts(server: Server) -> Json:
    facts = server.facts
    return {
        "name": server.name,
        "country": facts.get("country", ""),
        "country_name": facts.get("country_name", ""),
        "city": facts.get("city", ""),
        "region": facts.get("region", ""),
        "datacenter": facts.get("datacenter", ""),
        "is_free": facts.get("is_free", False),
        "specs": {
            "cpu_cores": None,
            "ram_gb": None,
            "disk_gb": facts.get("disk_gb", 0),
            "shared_compute": True,
        },
    }


def _progress(job: Job) -> Json:
    """The job's own figures, and what follows from them."""
    done, total = _number(job.progress, "bytes_done"), _number(job.progress, "bytes_total")
    rate = _number(job.progress, "rate_bytes_per_second")
    percent = 100.0 * min(done, total) / total if total else 0.0
    return {
        "percent": 100.0 if job.state is JobState.SUCCEEDED else math.floor(percent * 10) / 10,
        "bytes_total": total,
        "bytes_done": done,
        "bytes_wire": _number(job.progress, "bytes_wire"),
        "rate_bytes_per_second": rate,
        "eta_seconds": math.ceil((total - done) / rate) if rate and total > done else None,
    }


def _number(progress: Json, key: str) -> int:
    value = progress.get(key, 0)
    return int(value) if isinstance(value, int | float) else 0
