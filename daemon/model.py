"""Frozen values of the catalogue. Times are aware UTC datetimes, sizes bytes, ids 24 hex."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from transfer.model import Guid

Json = dict[str, object]


def new_id() -> str:
    """A fresh id: 24 lower-case hex digits."""
    return secrets.token_hex(12)


def snapshot_name(snapshot_id: str) -> str:
    """The name in storage of the snapshot with this id, unique for ever."""
    return f"h-{snapshot_id}"


def snapshot_id(name: str) -> str:
    """The id of the snapshot that has this name in storage."""
    return name.removeprefix("h-")


def generation_path(container_id: str, generation_id: str) -> str:
    """Where a generation's dataset lies under the storage's root."""
    return f"containers/{container_id}/{generation_id}"


def mirror_path(mirror_id: str) -> str:
    """Where a mirror's dataset lies under the storage's root."""
    return f"mirrors/{mirror_id}"


def hold_tag(job_id: str) -> str:
    """The tag of the holds that a job places, on any server."""
    return f"hoody-{job_id}"


def now() -> datetime:
    """This instant, to the millisecond that the catalogue keeps."""
    instant = datetime.now(UTC)
    return instant.replace(microsecond=instant.microsecond // 1000 * 1000)


class JobType(StrEnum):
    """What a job does; each has an action of the same name."""

    CREATE = "create"
    COPY = "copy"
    SYNC = "sync"
    RESTORE = "restore"
    SNAPSHOT = "snapshot"
    SNAPSHOT_DELETE = "snapshot_delete"
    EXPIRE = "expire"
    START = "start"
    STOP = "stop"
    RESTART = "restart"
    DELETE = "delete"
    PRESPAWN = "prespawn"


_LISTING = frozenset({JobType.SNAPSHOT_DELETE, JobType.EXPIRE})
"""Jobs that change a container's list of snapshots and nothing else."""

BESIDE = _LISTING | {JobType.PRESPAWN}
"""Jobs that run beside whatever else their container is busy with; or are about an image, which
several servers may bring to themselves at once."""

SHORT = _LISTING | {
    JobType.SNAPSHOT,
    JobType.RESTORE,
    JobType.START,
    JobType.STOP,
    JobType.RESTART,
    JobType.DELETE,
}
"""Jobs that move no bytes between servers: none of them waits until those that do have ended."""


class JobState(StrEnum):
    """Where a job stands; `states.py` has the arrows."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Status(StrEnum):
    """What a container is doing."""

    CREATING = "creating"
    COPYING = "copying"
    RESTORING = "restoring"
    RUNNING = "running"
    STOPPED = "stopped"
    DELETING = "deleting"
    ERROR = "error"


class Role(StrEnum):
    """What a dataset is for."""

    GENERATION = "generation"
    MIRROR = "mirror"
    IMAGE = "image"


@dataclass(frozen=True, slots=True)
class Server:
    """One machine that runs one daemon. `facts` is what the API shows of `[server]`."""

    id: str
    name: str
    peer_address: str  # host:port that other servers dial
    peer_key: str  # its ed25519 public key, OpenSSH text: host key and client key alike
    backend: str  # zfs | dir
    domain: str
    facts: Json = field(default_factory=dict)
    max_containers: int = 100
    total_bytes: int = 0
    used_bytes: int = 0
    available_bytes: int = 0
    secret_fingerprint: str = ""
    sealing_fingerprint: str = ""
    created_at: datetime = field(default_factory=now)
    last_heartbeat_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class User:
    """An account. Tokens issued before `revoked_at` are no longer valid."""

    id: str
    banned: bool = False
    revoked_at: datetime | None = None
    balance_cents: int = 0
    created_at: datetime = field(default_factory=now)


@dataclass(frozen=True, slots=True)
class Project:
    """A named set of one user's containers."""

    id: str
    owner_id: str
    name: str
    alias: str
    created_at: datetime = field(default_factory=now)


@dataclass(frozen=True, slots=True)
class Container:
    """A container's record; the filesystem is its live generation's.

    `generation_id` is None until the first switch. `taken_guid` is the source's state (an anchor
    or a user snapshot) that the live generation was made from by copy or sync.
    `ssh_key_id` is the key itself without comment or options, for the uniqueness rule;
    `ssh_private_sealed` a generated private key, sealed, until it is fetched once.
    """

    id: str
    project_id: str
    owner_id: str
    server_id: str
    name: str
    status: Status
    status_reason: str | None = None
    source_container_id: str | None = None
    source_snapshot: str | None = None
    generation_id: str | None = None
    taken_guid: Guid | None = None
    command: tuple[str, ...] | None = None
    environment_vars: dict[str, str] = field(default_factory=dict)
    resources: Json = field(default_factory=dict)
    container_image: str | None = None
    container_image_id: str | None = None
    color: str | None = None
    comment: str | None = None
    flags: dict[str, bool] = field(default_factory=dict)  # ai, hoody_kit, dev_kit, ramdisk …
    autostart: bool = True
    ssh_public_key: str | None = None
    ssh_key_id: str | None = None
    ssh_private_sealed: bytes | None = None
    ssh_private_fetched: bool = False
    copy_firewall_rules: bool = False
    copy_network_rules: bool = False
    firewall_rules: tuple[Json, ...] = ()
    network_rules: tuple[Json, ...] = ()
    sync_schedule: str | None = None
    exit_code: int | None = None
    referenced_bytes: int = 0
    unique_bytes: int = 0
    created_at: datetime = field(default_factory=now)
    updated_at: datetime = field(default_factory=now)
    last_synced_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ProxyAlias:
    """A name, unique in its project, under which a program in a container is reached. It goes
    with its container and follows nothing: no copy has it."""

    id: str
    project_id: str
    container_id: str
    alias: str
    program: str
    index: int
    target_path: str
    created_at: datetime = field(default_factory=now)


@dataclass(frozen=True, slots=True)
class KeyedRow:
    """A POST that came with an Idempotency-Key. `request_hash` tells its query and body from
    others; `answer` is None until its job has ended, where the answer waits for that."""

    user_id: str
    method: str
    path: str
    key: str
    request_hash: str
    created_at: datetime
    job_id: str | None = None
    answer: Json | None = None


@dataclass(frozen=True, slots=True)
class LookRow:
    """When a container's live filesystem was last found to have changed (`written_at`), and when
    somebody last asked for a look at it and it was looked at."""

    container_id: str
    asked_at: datetime | None = None
    looked_at: datetime | None = None
    written_at: datetime | None = None

    @property
    def pending(self) -> bool:
        """Whether it was asked for and has not come yet."""
        if self.asked_at is None:
            return False
        return self.looked_at is None or self.looked_at < self.asked_at


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    """When the next sync begins that a container's `sync_schedule` asks for, jitter included."""

    container_id: str
    next_sync_at: datetime


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """A dataset that the catalogue knows.

    A generation's row has its generation id as id; a mirror has an id of its own and names the
    generation that it replicates. `ready` is False until the first snapshot is in, and stays so
    for what an ended job left half-made. `retired` is True for what was live and is no longer.
    `trimmed` is True once the head of what is not live holds nothing beyond its newest snapshot.
    `settled_guid`, on backends that need one: of a copy the snapshot that marks the state right
    after the switch, else the one that marks the state which the last look found. `origin_guid`
    is the snapshot that a generation was cloned from, `storage_name` its full name in the backend
    and `rootfs` where its server mounts it: all set with the switch, so that any server can show
    them.
    """

    id: str
    server_id: str
    role: Role
    generation_id: str
    path: str
    container_id: str | None = None
    job_id: str | None = None
    ready: bool = False
    retired: bool = False
    trimmed: bool = False
    settled_guid: Guid | None = None
    origin_guid: Guid | None = None
    storage_name: str | None = None
    rootfs: str | None = None
    created_at: datetime = field(default_factory=now)


@dataclass(frozen=True, slots=True)
class SnapshotRow:
    """An internal snapshot: an anchor, the first state of what was taken in, or a settled state.

    The row is written before the snapshot is taken (`guid` None until then), so that a crash in
    between leaves nothing unknown. `sequence` is the catalogue's order at the time of writing.
    """

    id: str
    server_id: str
    generation_id: str
    container_id: str
    job_id: str
    sequence: int
    guid: Guid | None = None
    taken_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class UserSnapshot:
    """A snapshot as one container lists it. Key: container and id.

    `id` is the snapshot's own: a copy inherits the entry under the same id, and its `sequence`,
    which orders snapshots by their making. `name` is unique among those that a container lists.
    `dropped`: an inherited entry that was deleted here; it is not listed, and a sync does not
    bring it back. `referenced_bytes` is the state's size, `unique_bytes` what its end would free.
    """

    container_id: str
    id: str
    name: str
    guid: Guid
    sequence: int
    created_at: datetime
    alias: str | None = None
    last_used_at: datetime | None = None
    expires_at: datetime | None = None
    inherited: bool = False
    dropped: bool = False
    referenced_bytes: int = 0
    unique_bytes: int = 0
    inconsistent_files: int = 0


def snapshot_params(snapshot: UserSnapshot) -> Json:
    """A job's params that name the snapshot it reads: enough to go on with where the entry is
    taken off the list meanwhile. What they name is kept until the job has ended."""
    return {
        "snapshot": snapshot.id,
        "guid": snapshot.guid,
        "sequence": snapshot.sequence,
        "taken_at": snapshot.created_at.isoformat(),
    }


@dataclass(frozen=True, slots=True)
class Base:
    """`holder` keeps snapshot `guid` of a generation for increments between it and `peer`, as
    long as one of the two has a copy of the container `source_container_id`, whose lineage
    passes that generation. Key: source container, generation, holder, peer."""

    source_container_id: str
    generation_id: str
    holder: str
    peer: str
    guid: Guid


@dataclass(frozen=True, slots=True)
class Job:
    """A persisted piece of work. `params` never change; `checkpoint` holds only what cannot be
    derived again: ids and names written before anything is made by them.

    A prespawn is a server's own: `container_id` is the image's id, and `user_id` the server's, so
    that none but admins see it.
    """

    id: str
    type: JobType
    state: JobState
    container_id: str
    server_id: str
    user_id: str
    sequence: int = 0
    source_container_id: str | None = None
    params: Json = field(default_factory=dict)
    checkpoint: Json = field(default_factory=dict)
    step: str | None = None
    attempt: int = 0
    cancel_requested: bool = False
    progress: Json = field(default_factory=dict)
    result: Json | None = None
    error: Json | None = None
    not_before: datetime | None = None
    lease_until: datetime | None = None
    created_at: datetime = field(default_factory=now)
    started_at: datetime | None = None
    finished_at: datetime | None = None
