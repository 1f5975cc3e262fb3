"""The shapes of what the API answers with, for its OpenAPI document.

The answers are made by `daemon.views` and the endpoints; the tests of the API hold every one of
them against these.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from daemon.api.fields import ObjectId
from daemon.api.rules import FirewallRule, NetworkRule
from daemon.model import JobState, JobType, Status

Time = Annotated[
    str,
    Field(
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$",
        json_schema_extra={"format": "date-time"},
    ),
]
Size = Annotated[int, Field(ge=0, description="Bytes")]
Count = Annotated[int, Field(ge=0)]
SyncState = Annotated[
    Literal["current", "behind", "orphaned"] | None,
    Field(
        description="How a copy stands to its source's filesystem. `current`: nothing there has"
        " changed since the copy took it. `behind`: something has, or nothing was taken yet; a sync"
        " brings the copy up to date. `orphaned`: the source was deleted. Null for what is no copy."
    ),
]


def may_be_absent() -> Any:
    """A field that an answer may lack; it stands for no value then."""
    return Field(default_factory=dict)


class Shape(BaseModel):
    """An object with exactly these fields."""

    model_config = ConfigDict(extra="forbid")


class Failure(Shape):
    """Why a request was refused: `code` is contract, `message` is for people, `details` names the
    fields (or facts) at fault, each with the reason."""

    statusCode: int
    error: str
    message: str
    code: str
    details: dict[str, object] = may_be_absent()


class Specs(Shape):
    """What the machine has; null where it is not told."""

    cpu_cores: int | None
    ram_gb: int | None
    disk_gb: int
    shared_compute: bool


class ServerFacts(Shape):
    """Where a server stands and what it is."""

    name: str
    country: str
    country_name: str
    city: str
    region: str
    datacenter: str
    is_free: bool
    specs: Specs


class Room(Shape):
    """A server's storage at its last heartbeat."""

    total_bytes: Size
    used_bytes: Size
    available_bytes: Size


class ServerObject(ServerFacts):
    """A server; its address is for admins, null for others."""

    id: ObjectId
    backend: Literal["dir", "zfs"]
    online: bool
    live_containers: Count
    max_containers: Count
    storage: Room
    peer_address: str | None
    last_heartbeat_at: Time | None
    created_at: Time


class ProjectObject(Shape):
    """A named set of one user's containers."""

    id: ObjectId
    name: str
    alias: str
    owner_id: ObjectId
    created_at: Time


class GivenResources(Shape):
    """What a container may use; what is not limited is absent."""

    cpu_cores: float = may_be_absent()
    memory_bytes: Size = may_be_absent()
    pids: Count = may_be_absent()


class ContainerObject(Shape):
    """A container."""

    id: ObjectId
    name: str
    status: Status
    status_reason: str | None
    source_container_id: ObjectId | None
    project_id: ObjectId
    project_alias: str
    server_id: ObjectId
    server_name: str
    subserver_name: str
    server: ServerFacts
    ssh_hostname: str
    color: str | None
    container_image: str | None
    container_image_id: ObjectId | None
    ai: bool
    hoody_kit: bool
    dev_kit: bool
    ramdisk: bool
    prespawn: bool
    is_default: bool
    autostart: bool
    command: list[str] | None
    environment_vars: dict[str, str]
    resources: GivenResources
    volumes: dict[str, object]
    ssh_public_key: str | None
    comment: str | None
    copy_firewall_rules: bool
    copy_network_rules: bool
    created_at: Time
    updated_at: Time
    realm_ids: list[ObjectId]
    exit_code: int | None
    disk_used_bytes: Size
    last_synced_at: Time | None
    sync_state: SyncState
    source_snapshot: str | None
    current_job_id: ObjectId | None
    sync_schedule: str | None


class SnapshotObject(Shape):
    """A snapshot as one container lists it; `size` is the bytes that it refers to."""

    name: str
    alias: str | None
    created_at: Time
    last_used_at: Time | None
    expires_at: Time | None
    stateful: Literal[False]
    size: Size
    guid: str
    inherited: bool
    unique_bytes: Size
    inconsistent_files: Count


class Progress(Shape):
    """How far a job is."""

    percent: Annotated[float, Field(ge=0, le=100)]
    bytes_total: Size
    bytes_done: Size
    bytes_wire: Size
    rate_bytes_per_second: Size
    eta_seconds: Count | None


class JobFailure(Shape):
    """Why a job failed."""

    code: str
    message: str
    retryable: bool
    evidence: dict[str, object]


class JobObject(Shape):
    """A job. `result` depends on its type."""

    id: ObjectId
    type: JobType
    state: JobState
    step: str | None
    container_id: ObjectId
    source_container_id: ObjectId | None
    server_id: ObjectId
    attempt: Count
    cancel_requested: bool
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
    progress: Progress
    result: dict[str, object] | None
    error: JobFailure | None


class Pagination(Shape):
    """Where a page of a list stands."""

    total: Count
    page: Annotated[int, Field(ge=1)]
    limit: Annotated[int, Field(ge=1, le=100)]
    totalPages: Count


class ContainerList(Shape):
    """A page of containers, newest first."""

    containers: list[ContainerObject]
    pagination: Pagination


class JobList(Shape):
    """A page of jobs, newest first."""

    jobs: list[JobObject]
    pagination: Pagination


class ProjectList(Shape):
    """A page of projects, newest first."""

    projects: list[ProjectObject]
    pagination: Pagination


class ProxyAliasObject(Shape):
    """Where a name leads: to `target_path` at the `index`-th instance of a program in a
    container."""

    id: ObjectId
    project_id: ObjectId
    container_id: ObjectId
    alias: str
    program: str
    index: Count
    target_path: str
    created_at: Time


class ProxyAliasList(Shape):
    """A page of proxy aliases, newest first."""

    aliases: list[ProxyAliasObject]
    pagination: Pagination


class ServerList(Shape):
    """A page of servers, newest first."""

    servers: list[ServerObject]
    pagination: Pagination


class SnapshotList(Shape):
    """All snapshots, newest first; one page of them, and `pagination`, where one is asked for."""

    container_id: ObjectId
    project_id: ObjectId
    snapshots: list[SnapshotObject]
    pagination: Pagination = may_be_absent()


class ContainerSnapshot(Shape):
    """A container's snapshot."""

    container_id: ObjectId
    project_id: ObjectId
    snapshot: SnapshotObject


class Restored(Shape):
    """The snapshot that a container was restored from."""

    success: Literal[True]
    message: str
    snapshot: SnapshotObject


class SnapshotGone(Shape):
    """The snapshot that was deleted."""

    container_id: ObjectId
    project_id: ObjectId
    snapshot_name: str


class SyncStarted(Shape):
    """The copy that is brought up to date, and its source."""

    container_id: ObjectId
    source_container_id: ObjectId
    status: Literal["copying"]


class DeleteStarted(Shape):
    """The container that is going."""

    container_id: ObjectId
    status: Literal["deleting"]


class FirewallRules(Shape):
    """The firewall rules in their order: the first that matches wins."""

    rules: list[FirewallRule]


class NetworkRules(Shape):
    """The network rules in their order."""

    rules: list[NetworkRule]


class StorageObject(Shape):
    """Where a container's filesystem is; `dataset` and `rootfs` are for admins, null for others."""

    backend: Literal["dir", "zfs"]
    dataset: str | None
    rootfs: str | None
    generation: ObjectId | None
    generations: Count
    referenced_bytes: Size
    unique_bytes: Size
    origin_guid: str | None


class PrivateKey(Shape):
    """A generated private key in OpenSSH's format: given out once."""

    container_id: ObjectId
    ssh_private_key: str
