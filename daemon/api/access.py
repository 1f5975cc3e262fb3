"""Lookups as the caller may see them, and the rules that a verb must pass before anything is
written. Somebody else's object answers as if it did not exist."""

from __future__ import annotations

from daemon.api.errors import (
    ApiError,
    ContainerNotFound,
    ResourceNotFound,
    ServerContainerLimit,
    ServiceUnavailable,
    StateConflict,
    StorageInsufficient,
)
from daemon.api.routing import Caller
from daemon.config import Config, Limits
from daemon.model import Container, Job, Project, Server, UserSnapshot, now
from daemon.store import accounts, containers, datasets, jobs, servers, user_snapshots
from daemon.store.database import Tx
from daemon.verbs import Verb, allows

FREE_BYTES_MIN = 256 << 20


async def visible_container(
    tx: Tx, caller: Caller, container_id: str, missing: type[ApiError] = ContainerNotFound
) -> Container:
    """The container. Raises `missing` where there is none for the caller."""
    found = await containers.get(tx, container_id)
    if found is None or not caller.sees(found.owner_id):
        raise missing
    return found


async def visible_project(tx: Tx, caller: Caller, project_id: str, field: str) -> Project:
    """The project that `field` names. Raises ResourceNotFound."""
    found = await accounts.get_project(tx, project_id)
    if found is None or not caller.sees(found.owner_id):
        raise ResourceNotFound("Project not found", details={field: "names no project"})
    return found


async def known_server(tx: Tx, server_id: str, field: str) -> Server:
    """The server that `field` names. Raises ResourceNotFound."""
    found = await servers.get(tx, server_id)
    if found is None:
        raise ResourceNotFound("Server not found", details={field: "names no server"})
    return found


async def visible_job(tx: Tx, caller: Caller, job_id: str) -> Job:
    """The job. Raises ResourceNotFound where there is none for the caller."""
    found = await jobs.get(tx, job_id)
    if found is None or not caller.sees(found.user_id):
        raise ResourceNotFound("Job not found")
    return found


async def snapshots_called(
    tx: Tx, container: Container, reference: str, field: str
) -> list[UserSnapshot]:
    """The container's snapshot with this name, else those with this alias, newest first: what
    `field` names. Raises ResourceNotFound where there is none."""
    found = await user_snapshots.called(tx, container.id, reference)
    if not found:
        details = {field: "names no snapshot of the container"}
        raise ResourceNotFound("Snapshot not found", details=details)
    return found


def is_online(config: Config, server: Server) -> bool:
    """Whether the server has not missed so many heartbeats that it counts as offline."""
    beat = server.last_heartbeat_at
    patience_seconds = Limits.missed_heartbeats * config.timing.heartbeat_seconds
    return beat is not None and (now() - beat).total_seconds() <= patience_seconds


def require(container: Container, verb: Verb) -> None:
    """Raises StateConflict where the verb does not work on the container now."""
    if not allows(container, verb):
        raise StateConflict.of(container, verb)


async def require_online(tx: Tx, config: Config, container: Container) -> None:
    """Raises ServiceUnavailable where the container's server is offline."""
    server = await known_server(tx, container.server_id, "server_id")
    if not is_online(config, server):
        details = {"server_id": f"{server.name} is offline"}
        raise ServiceUnavailable("The container's server is offline", details=details)


async def require_place(tx: Tx, server: Server) -> None:
    """Raises ServerContainerLimit where the server has more live containers than it may, the
    one that this transaction has just written among them."""
    if await containers.live_on(tx, server.id) > server.max_containers:
        raise ServerContainerLimit(details={"server_id": f"holds {server.max_containers} already"})


def require_space(server: Server, needed_bytes: int = 0) -> None:
    """Raises StorageInsufficient where the server's last heartbeat leaves no room; one that has
    never had a heartbeat cannot be judged, and its job looks for itself."""
    if server.last_heartbeat_at is None:
        return
    if server.available_bytes < max(FREE_BYTES_MIN, needed_bytes):
        raise StorageInsufficient(details={"available_bytes": server.available_bytes})


async def has_something_of(tx: Tx, server: Server, source: Container) -> bool:
    """Whether the server holds blocks of the source, so that less than all of it would come."""
    if source.server_id == server.id or source.generation_id is None:
        return source.server_id == server.id
    for below in (source.generation_id, source.container_image_id):
        if below is not None and await datasets.of_generation(tx, server.id, below):
            return True
    copies = await containers.copies_of(tx, source.id)
    return any(copy.server_id == server.id and copy.generation_id for copy in copies)
