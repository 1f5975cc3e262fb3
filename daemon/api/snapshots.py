"""Snapshots of a container: list, create, restore, alias, delete.

Create, restore and delete run as jobs on the container's server; the answer comes when the job
has ended.
"""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter, ValidationError

from daemon.api.access import require, require_online, snapshots_called, visible_container
from daemon.api.errors import ResourceNotFound, SnapshotAmbiguous, ValidationFailed
from daemon.api.fields import (
    ExpiryDays,
    Fields,
    Nothing,
    PageQuery,
    SnapshotAlias,
    SnapshotReference,
)
from daemon.api.queueing import queue
from daemon.api.routing import Answer, AnyRoute, Call, Plain, Route, job_headers
from daemon.api.showing import page_of
from daemon.api.waiting import until_done
from daemon.auth import Scope
from daemon.model import (
    Container,
    Job,
    JobType,
    Json,
    Status,
    UserSnapshot,
    new_id,
    snapshot_params,
)
from daemon.store import containers, user_snapshots
from daemon.store.database import Tx
from daemon.store.rows import cut
from daemon.verbs import Verb
from daemon.views import snapshot_view

RESTORED = "Container restored from snapshot successfully"
_REFERENCE: TypeAdapter[str] = TypeAdapter(SnapshotReference)


class SnapshotBody(Fields):
    """What the snapshot is to be called, and for how many days it is to be kept."""

    alias: SnapshotAlias | None = None
    expiry: ExpiryDays | None = None


class AliasBody(Fields):
    """The new alias; null removes it."""

    nullable = frozenset({"alias"})

    alias: SnapshotAlias | None


async def index(call: Call[Nothing, PageQuery]) -> Answer:
    """All snapshots, newest first; one page of them where a page is asked for."""
    query = call.query
    async with call.deps.db.read() as tx:
        found = await visible_container(tx, call.caller, call.id)
        listed = await user_snapshots.listed(tx, found.id)
    views = [snapshot_view(snapshot) for snapshot in listed]
    data: Json = {"snapshots": views}
    if query.model_fields_set:
        shown = views[cut(query.page, query.limit)]
        data = page_of("snapshots", shown, len(views), query)
    return Answer(_of(found) | data, "Snapshots retrieved successfully")


async def create(call: Call[SnapshotBody, Nothing]) -> Answer:
    """Takes a snapshot of the container's filesystem as it is now."""
    deps, body = call.deps, call.body
    params: Json = {"snapshot": new_id(), "alias": body.alias, "expiry_days": body.expiry}
    async with call.write() as tx:
        found = await visible_container(tx, call.caller, call.id)
        require(found, Verb.SNAPSHOT)
        job = await queue(call, tx, JobType.SNAPSHOT, found, params)
        await _require_listable(tx, found, deps.config.limits.snapshots_per_container)
        await require_online(tx, deps.config, found)
    return await created(call, job)


async def created(call: Call[SnapshotBody, Nothing], job: Job) -> Answer:
    """The answer to a create, once its job has ended."""
    await until_done(call, job)
    db = call.deps.db
    async with db.write() if call.keyed else db.read() as tx:  # nothing is kept without a key
        found = await visible_container(tx, call.caller, call.id)
        made = await user_snapshots.get(tx, found.id, str(job.params["snapshot"]))
        if made is None:
            raise ResourceNotFound("The snapshot was deleted again", headers=job_headers(job.id))
        answer = _answer(found, made, "Snapshot created successfully", job.id)
        return await call.keep(tx, answer)


async def restore(call: Plain) -> Answer:
    """Makes the container's filesystem what it was when the snapshot was taken: of several with
    the alias that is named, the newest."""
    reference = _reference(call)
    async with call.deps.db.write() as tx:
        found = await visible_container(tx, call.caller, call.id)
        wanted, *_ = await snapshots_called(tx, found, reference, "name")
        require(found, Verb.SNAPSHOT)
        params: Json = {**snapshot_params(wanted), "was": found.status.value}
        job = await queue(call, tx, JobType.RESTORE, found, params)
        await containers.change(tx, found.id, status=Status.RESTORING)
        await require_online(tx, call.deps.config, found)
    await until_done(call, job)
    async with call.deps.db.read() as tx:
        used = await user_snapshots.get(tx, found.id, wanted.id)
    data = {"success": True, "message": RESTORED, "snapshot": snapshot_view(used or wanted)}
    return Answer(data, RESTORED, headers=job_headers(job.id))


async def set_alias(call: Call[AliasBody, Nothing]) -> Answer:
    """Gives the snapshot another alias, or none: of several with the one that is named, the
    newest."""
    reference = _reference(call)
    async with call.deps.db.write() as tx:
        found = await visible_container(tx, call.caller, call.id)
        wanted, *_ = await snapshots_called(tx, found, reference, "name")
        require(found, Verb.LIST)
        await user_snapshots.change(tx, found.id, wanted.id, alias=call.body.alias)
        (renamed,) = await snapshots_called(tx, found, wanted.name, "name")
    return _answer(found, renamed, "Snapshot alias updated successfully")


async def delete(call: Plain) -> Answer:
    """Takes the snapshot off the container's list, whatever else the container is busy with."""
    reference = _reference(call)
    async with call.deps.db.write() as tx:
        found = await visible_container(tx, call.caller, call.id)
        wanted, *others = await snapshots_called(tx, found, reference, "name")
        require(found, Verb.LIST)
        if others:
            names = [snapshot.name for snapshot in (wanted, *others)]
            raise SnapshotAmbiguous(details={"name": "is an alias of several", "snapshots": names})
        job = await queue(call, tx, JobType.SNAPSHOT_DELETE, found, {"snapshot": wanted.id})
        await require_online(tx, call.deps.config, found)
    await until_done(call, job)
    data = _of(found) | {"snapshot_name": wanted.name}
    return Answer(data, "Snapshot deleted successfully", headers=job_headers(job.id))


def _reference(call: Call[Any, Any]) -> str:
    """The name or alias in the path. Raises ValidationFailed for what can be neither."""
    try:
        return _REFERENCE.validate_python(call.request.match_info["name"])
    except ValidationError:
        details = {"name": "must be 1-100 characters without / and control characters"}
        raise ValidationFailed("Invalid snapshot name", details=details) from None


async def _require_listable(tx: Tx, container: Container, snapshots_max: int) -> None:
    """Raises ValidationFailed where the container lists as many snapshots as it may."""
    if len(await user_snapshots.names(tx, container.id)) >= snapshots_max:
        details = {"snapshots": f"the container has {snapshots_max} already"}
        raise ValidationFailed("Snapshot limit reached", details=details)


def _of(container: Container) -> Json:
    return {"container_id": container.id, "project_id": container.project_id}


def _answer(
    container: Container, snapshot: UserSnapshot, message: str, job_id: str | None = None
) -> Answer:
    data = _of(container) | {"snapshot": snapshot_view(snapshot)}
    return Answer(data, message, headers=job_headers(job_id) if job_id else {})


_ALL = "/containers/{id}/snapshots"
_ONE = "/containers/{id}/snapshots/{name}"

ROUTES: tuple[AnyRoute, ...] = (
    Route("GET", _ALL, Scope.READ, index, Nothing, PageQuery),
    Route("POST", _ALL, Scope.SNAPSHOTS, create, SnapshotBody, Nothing, created),
    Route("PATCH", _ONE, Scope.SNAPSHOTS, restore, Nothing, Nothing),
    Route("PATCH", f"{_ONE}/alias", Scope.SNAPSHOTS, set_alias, AliasBody, Nothing),
    Route("DELETE", _ONE, Scope.SNAPSHOTS, delete, Nothing, Nothing),
)
