"""Containers: create, list, get, patch, delete."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Annotated, Self

from pydantic import Field, model_validator

from daemon import schedule
from daemon.api.access import (
    known_server,
    require,
    require_place,
    require_space,
    visible_container,
    visible_project,
)
from daemon.api.beginnings import missing_bytes, usable_image
from daemon.api.errors import ContainerNameInUse, InsufficientPermissions
from daemon.api.fields import (
    Color,
    Command,
    Comment,
    ContainerName,
    CronText,
    EnvironmentVars,
    Fields,
    GivenKey,
    Line,
    Nothing,
    ObjectId,
    PageQuery,
    StatusWord,
    Text,
)
from daemon.api.freshness import refresh
from daemon.api.imports import refuse_import
from daemon.api.queueing import queue
from daemon.api.routing import Answer, AnyRoute, Call, Plain, Route, job_headers
from daemon.api.showing import page_of, show, show_all
from daemon.auth import Scope
from daemon.model import Container, JobType, Json, Project, Status, new_id, now
from daemon.model_images import image_params
from daemon.store import containers, jobs, schedules
from daemon.store.containers import ContainerFilter
from daemon.store.database import Tx
from daemon.verbs import Verb
from daemon.views import FLAGS


class Resources(Fields):
    """What the container may use."""

    cpu_cores: Annotated[float, Field(gt=0, le=1024)] | None = None
    memory_bytes: Annotated[int, Field(gt=0, lt=1 << 50)] | None = None
    pids: Annotated[int, Field(gt=0, lt=1 << 22)] | None = None


class CreateBody(Fields):
    """What the container is to be; exactly one of `image` and `source_path`."""

    project_id: ObjectId
    image: Annotated[Line, Field(min_length=1, max_length=200)] | None = None
    source_path: Annotated[Text, Field(min_length=1, max_length=4096)] | None = None
    name: ContainerName | None = None
    server_id: ObjectId | None = None
    command: Command | None = None
    environment_vars: EnvironmentVars = Field(default_factory=dict)
    ssh_public_key: GivenKey | None = None
    autostart: bool = True
    color: Color | None = None
    comment: Comment | None = None
    resources: Resources = Resources()
    ai: bool = False
    hoody_kit: bool = False
    dev_kit: bool = False
    ramdisk: bool = False
    prespawn: bool = False
    is_default: bool = False

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.image is None) == (self.source_path is None):
            raise ValueError("needs exactly one of image and source_path")
        return self


class PatchBody(Fields):
    """What is to change; null clears only the schedule."""

    nullable = frozenset({"sync_schedule"})

    name: ContainerName | None = None
    color: Color | None = None
    comment: Comment | None = None
    environment_vars: EnvironmentVars | None = None
    autostart: bool | None = None
    ssh_public_key: GivenKey | None = None
    sync_schedule: CronText | None = None


class ContainerQuery(PageQuery):
    """Which containers a list shows."""

    project_id: ObjectId | None = None
    server_id: ObjectId | None = None
    source_container_id: ObjectId | None = None
    status: StatusWord | None = None


async def create(call: Call[CreateBody, Nothing]) -> Answer:
    """Makes a container's record and queues the job that makes its filesystem."""
    body, deps = call.body, call.deps
    if body.source_path is not None:
        if not call.caller.is_admin:
            raise InsufficientPermissions(details={"source_path": "is for admins"})
        is_here = body.server_id in (None, deps.server_id)
        await refuse_import(body.source_path, deps.config.storage.import_roots if is_here else None)
    async with call.write() as tx:
        project = await visible_project(tx, call.caller, body.project_id, "project_id")
        server = await known_server(tx, body.server_id or deps.server_id, "server_id")
        made = _created(body, project, server.id)
        params: Json = {"source_path": body.source_path}
        coming_bytes = 0
        if body.image is not None:
            image = await usable_image(tx, body.image, project, server)
            made = replace(made, container_image=image.alias, container_image_id=image.id)
            params = image_params(image)
            coming_bytes = await missing_bytes(tx, image, server)
        if made.name in await containers.names(tx, project.id):
            raise ContainerNameInUse(details={"name": "is taken"})
        await containers.insert(tx, made)
        await require_place(tx, server)
        require_space(server, coming_bytes)
        job = await queue(call, tx, JobType.CREATE, made, params)
        message = "Container creation initiated successfully"
        answer = Answer(await show(tx, made), message, 201, job_headers(job.id))
        await call.keep(tx, answer)
    deps.news.tell()
    return answer


def _created(body: CreateBody, project: Project, server_id: str) -> Container:
    key, at = body.ssh_public_key, now()
    return Container(
        id=new_id(),
        project_id=project.id,
        owner_id=project.owner_id,
        server_id=server_id,
        name=body.name or f"container-{secrets.token_hex(3)}",
        status=Status.CREATING,
        command=None if body.command is None else tuple(body.command),
        environment_vars=body.environment_vars,
        resources=body.resources.model_dump(exclude_none=True),
        color=body.color,
        comment=body.comment,
        flags={flag: getattr(body, flag) for flag in FLAGS},
        autostart=body.autostart,
        ssh_public_key=key.text if key else None,
        ssh_key_id=key.key_id if key else None,
        created_at=at,
        updated_at=at,
    )


async def index(call: Call[Nothing, ContainerQuery]) -> Answer:
    """The caller's containers."""
    query, db = call.query, call.deps.db
    wanted = ContainerFilter(
        owner_id=call.caller.owner_filter,
        project_id=query.project_id,
        server_id=query.server_id,
        source_container_id=query.source_container_id,
        status=query.status,
    )
    async with db.read() as tx:
        found, _ = await containers.page(tx, wanted, query.page, query.limit)
    await refresh(call.deps, found)
    async with db.read() as tx:
        found, total = await containers.page(tx, wanted, query.page, query.limit)
        views = await show_all(tx, found)
    return Answer(page_of("containers", views, total, query), "Containers retrieved successfully")


async def get(call: Plain) -> Answer:
    """One container."""
    async with call.deps.db.read() as tx:
        found = await visible_container(tx, call.caller, call.id)
    await refresh(call.deps, [found])
    async with call.deps.db.read() as tx:
        data = await show(tx, await visible_container(tx, call.caller, call.id))
    return Answer(data, "Container retrieved successfully")


async def patch(call: Call[PatchBody, Nothing]) -> Answer:
    """Changes the record; nothing given, nothing changed. A given key ends a generated one."""
    given = call.body.model_dump(exclude_unset=True, exclude={"ssh_public_key"})
    if key := call.body.ssh_public_key:
        given |= {"ssh_public_key": key.text, "ssh_key_id": key.key_id}
        given |= {"ssh_private_sealed": None, "ssh_private_fetched": False}
    async with call.deps.db.write() as tx:
        found = await visible_container(tx, call.caller, call.id)
        require(found, Verb.EDIT)
        name = call.body.name
        if name not in (None, found.name) and name in await containers.names(tx, found.project_id):
            raise ContainerNameInUse(details={"name": "is taken"})
        if given:
            await containers.change(tx, found.id, **given, updated_at=now())
        if given.get("sync_schedule", found.sync_schedule) != found.sync_schedule:
            await _reschedule(tx, found.id, given["sync_schedule"])
    await refresh(call.deps, [found])
    async with call.deps.db.read() as tx:
        data = await show(tx, await visible_container(tx, call.caller, call.id))
    return Answer(data, "Container updated successfully")


async def _reschedule(tx: Tx, container_id: str, text: str | None) -> None:
    """Notes the first sync of a new schedule, whose due times are those from now on."""
    at = now()
    begins_at = None if text is None else schedule.next_sync(text, container_id, at, at)
    await schedules.put(tx, container_id, begins_at)


async def delete(call: Plain) -> Answer:
    """Queues the delete, behind the job that the container is busy with, which is asked to stop."""
    async with call.deps.db.write() as tx:
        found = await visible_container(tx, call.caller, call.id)
        require(found, Verb.DELETE)
        was: object = found.status.value
        if busy := await jobs.active_for(tx, found.id):
            await jobs.request_cancel(tx, busy.id)
            was = busy.params.get("was", was)
        await containers.change(tx, found.id, status=Status.DELETING)
        job = await queue(call, tx, JobType.DELETE, found, {"was": was})
    call.deps.news.tell()
    data = {"container_id": found.id, "status": Status.DELETING.value}
    return Answer(data, "Container deletion initiated successfully", headers=job_headers(job.id))


_ONE = "/containers/{id}"

ROUTES: tuple[AnyRoute, ...] = (
    Route("POST", "/containers", Scope.CONTAINERS, create, CreateBody, Nothing),
    Route("GET", "/containers", Scope.READ, index, Nothing, ContainerQuery),
    Route("GET", _ONE, Scope.READ, get, Nothing, Nothing),
    Route("PATCH", _ONE, Scope.CONTAINERS, patch, PatchBody, Nothing),
    Route("DELETE", _ONE, Scope.CONTAINERS, delete, Nothing, Nothing),
)
