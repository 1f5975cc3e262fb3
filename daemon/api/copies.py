"""POST /containers/{id}/copy and /sync."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace
from typing import Literal

from daemon.api.access import (
    has_something_of,
    known_server,
    require,
    require_place,
    require_space,
    snapshots_called,
    visible_container,
    visible_project,
)
from daemon.api.errors import (
    ContainerNameInUse,
    ContainerNotCopied,
    ResourceNotFound,
    SourceContainerNotFound,
    ValidationFailed,
)
from daemon.api.fields import ContainerName, Fields, GivenKey, Nothing, ObjectId, SnapshotReference
from daemon.api.queueing import add, note, queue
from daemon.api.routing import Answer, AnyRoute, Call, Caller, Route, job_headers
from daemon.api.showing import show
from daemon.auth import Scope
from daemon.config import Config
from daemon.model import (
    Container,
    Job,
    JobType,
    Json,
    Project,
    Server,
    Status,
    UserSnapshot,
    new_id,
    now,
    snapshot_params,
)
from daemon.store import containers
from daemon.store.database import Tx
from daemon.verbs import Verb

INHERITED_FLAGS = frozenset({"ai", "hoody_kit", "dev_kit", "ramdisk"})
NAME_CHARACTERS_MAX = 100


class StrategyQuery(Fields):
    """How bytes are to move."""

    strategy: Literal["auto", "full", "content-diff"] = "auto"


class CopyBody(Fields):
    """What the copy is to be."""

    target_project_id: ObjectId
    target_server_id: ObjectId | None = None
    name: ContainerName | None = None
    ssh_public_key: GivenKey | None = None
    source_snapshot: SnapshotReference | None = None
    copy_firewall_rules: bool = False
    copy_network_rules: bool = False


CopyCall = Call[CopyBody, StrategyQuery]


async def copy(call: CopyCall) -> Answer:
    """Makes the copy's record and queues its job."""
    body = call.body
    async with call.write() as tx:
        source = await visible_container(tx, call.caller, call.id, SourceContainerNotFound)
        project = await visible_project(
            tx, call.caller, body.target_project_id, "target_project_id"
        )
        if project.owner_id != source.owner_id:
            details = {"target_project_id": "names no project of the container's owner"}
            raise ResourceNotFound("Project not found", details=details)
        server_id = body.target_server_id or source.server_id
        server = await known_server(tx, server_id, "target_server_id")
        state = await _asked_state(tx, source, body.source_snapshot)
        await _require_strategy(tx, call.query.strategy, source, server)
        require(source, Verb.COPY_FROM)
        made = _copied(call, source, project, server, await containers.names(tx, project.id))
        made = replace(made, source_snapshot=state.name if state else None)
        await containers.insert(tx, made)
        await _require_room(tx, server, source)
        params: Json = {"strategy": call.query.strategy}
        if state is not None:
            params |= snapshot_params(state)
        job = await queue(call, tx, JobType.COPY, made, params)
        message = "Container copy initiated successfully"
        answer = Answer(await show(tx, made), message, 201, job_headers(job.id))
        await call.keep(tx, answer)
    call.deps.news.tell()
    return answer


async def _asked_state(tx: Tx, source: Container, reference: str | None) -> UserSnapshot | None:
    """The snapshot to copy; None for the current state. Raises ResourceNotFound."""
    if reference is None:
        return None
    return (await snapshots_called(tx, source, reference, "source_snapshot"))[0]


def _copied(
    call: CopyCall, source: Container, project: Project, server: Server, taken: Set[str]
) -> Container:
    """The copy's record. Raises ContainerNameInUse for a given name that is taken."""
    body, at = call.body, now()
    if body.name is not None and body.name in taken:
        raise ContainerNameInUse(details={"name": "is taken"})
    return Container(
        id=new_id(),
        project_id=project.id,
        owner_id=source.owner_id,
        server_id=server.id,
        name=body.name or copy_name(source.name, taken),
        status=Status.COPYING,
        source_container_id=source.id,
        command=source.command,
        environment_vars=source.environment_vars,
        resources=source.resources,
        container_image=source.container_image,
        container_image_id=source.container_image_id,
        color=source.color,
        comment=source.comment,
        flags={flag: on for flag, on in source.flags.items() if flag in INHERITED_FLAGS},
        autostart=source.autostart,
        ssh_public_key=body.ssh_public_key.text if body.ssh_public_key else None,
        ssh_key_id=body.ssh_public_key.key_id if body.ssh_public_key else None,
        copy_firewall_rules=body.copy_firewall_rules,
        copy_network_rules=body.copy_network_rules,
        firewall_rules=source.firewall_rules if body.copy_firewall_rules else (),
        network_rules=source.network_rules if body.copy_network_rules else (),
        created_at=at,
        updated_at=at,
    )


def copy_name(source_name: str, taken: Set[str]) -> str:
    """`<source>-copy`, `-copy-2` …: the first that is free, the source's name cut to fit."""
    suffixes = ["-copy", *(f"-copy-{number}" for number in range(2, len(taken) + 2))]
    names = (source_name[: NAME_CHARACTERS_MAX - len(suffix)] + suffix for suffix in suffixes)
    return next(name for name in names if name not in taken)


async def sync(call: Call[Nothing, StrategyQuery]) -> Answer:
    """Queues a sync; of a copy that never came to be, the copy again."""
    async with call.write() as tx:
        begun = await begin_sync(tx, call.deps.config, call.caller, call.id, call.query.strategy)
        job = await note(call, tx, begun)
        data = {
            "container_id": job.container_id,
            "source_container_id": job.source_container_id,
            "status": Status.COPYING.value,
        }
        message = "Container sync initiated successfully"
        answer = await call.keep(tx, Answer(data, message, headers=job_headers(job.id)))
    call.deps.news.tell()
    return answer


async def begin_sync(
    tx: Tx, config: Config, caller: Caller, copy_id: str, strategy: str = "auto"
) -> Job:
    """The queued job of a sync that the caller wants. Raises ApiError; then the transaction must
    not be committed."""
    copied = await visible_container(tx, caller, copy_id)
    if copied.source_container_id is None:
        raise ContainerNotCopied
    source = await visible_container(
        tx, caller, copied.source_container_id, SourceContainerNotFound
    )
    server = await known_server(tx, copied.server_id, "server_id")
    is_first = copied.generation_id is None
    reference = copied.source_snapshot if is_first else None
    state = await _asked_state(tx, source, reference)
    await _require_strategy(tx, strategy, source, server)
    require(copied, Verb.SYNC)
    require(source, Verb.COPY_FROM)
    await containers.change(tx, copied.id, status=Status.COPYING, status_reason=None)
    params: Json = {"strategy": strategy}
    if state is not None:
        params |= snapshot_params(state)
    if is_first:
        job = await add(tx, config, JobType.COPY, copied, params)
        await _require_room(tx, server, source)
        return job
    params["was"] = copied.status.value
    job = await add(tx, config, JobType.SYNC, copied, params)
    require_space(server)
    return job


async def _require_room(tx: Tx, server: Server, source: Container) -> None:
    """Raises ServerContainerLimit or StorageInsufficient where the server has no place, or no
    space, for a first copy of the source, which this transaction has just written."""
    await require_place(tx, server)
    has_some = await has_something_of(tx, server, source)
    require_space(server, 0 if has_some else source.referenced_bytes)


async def _require_strategy(tx: Tx, strategy: str, source: Container, server: Server) -> None:
    """Raises ValidationFailed where the two servers' backends have no such way."""
    origin = await known_server(tx, source.server_id, "server_id")
    if origin.backend != server.backend:
        reason = f"there is no way from {origin.backend} to {server.backend} yet"
        raise ValidationFailed(f"Invalid strategy: {reason}", details={"strategy": reason})
    if strategy == "content-diff" and server.backend == "zfs":
        reason = "there is no content-diff between zfs servers yet"
        raise ValidationFailed(f"Invalid strategy: {reason}", details={"strategy": reason})


ROUTES: tuple[AnyRoute, ...] = (
    Route("POST", "/containers/{id}/copy", Scope.CONTAINERS, copy, CopyBody, StrategyQuery),
    Route("POST", "/containers/{id}/sync", Scope.CONTAINERS, sync, Nothing, StrategyQuery),
)
