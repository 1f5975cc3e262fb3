"""The state of its source that a copy or sync takes: an anchor, or a user snapshot."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from daemon.actions import holds
from daemon.actions.context import Context
from daemon.errors import JobError
from daemon.model import (
    Container,
    SnapshotRow,
    generation_path,
    new_id,
    now,
    snapshot_id,
    snapshot_name,
)
from daemon.store import looks, snapshots
from transfer.errors import SnapshotMissing
from transfer.model import Guid
from transfer.storage.base import Source


@dataclass(frozen=True, slots=True)
class Anchor:
    """The source's state `guid`, held with the job's tag; it was asked for at `taken_at`, so
    that everything written before then is in it."""

    guid: Guid
    taken_at: datetime


async def take(ctx: Context, container: Container, source: Source) -> Anchor:
    """The snapshot that the job names. Else its anchor: the one that an earlier attempt took, or
    one that another job took since this job was made (so that syncs queued together share one),
    or a new one."""
    await holds.announce(ctx, container.server_id, ctx.server_id)
    if "guid" in ctx.job.params:
        return await _named(ctx, source)
    known = await _known(ctx, container)
    if known is not None and await _still_there(ctx, known, source):
        return known
    return await _take_new(ctx, container, source)


async def _named(ctx: Context, source: Source) -> Anchor:
    guid = str(ctx.job.params["guid"])
    await source.hold([guid], ctx.tag)
    return Anchor(guid, datetime.fromisoformat(str(ctx.job.params["taken_at"])))


async def _known(ctx: Context, container: Container) -> Anchor | None:
    async with ctx.db.read() as tx:
        own = ctx.recall("anchor")
        row = await snapshots.get(tx, own) if own else None
        if row is None or row.guid is None:
            row = await snapshots.usable_anchor(
                tx, container.id, _live(container), ctx.job.sequence
            )
    if row is None or row.guid is None or row.taken_at is None:
        return None
    return Anchor(row.guid, row.taken_at)


async def _still_there(ctx: Context, anchor: Anchor, source: Source) -> bool:
    try:
        await source.hold([anchor.guid], ctx.tag)
    except SnapshotMissing:
        return False
    return True


async def _take_new(ctx: Context, container: Container, source: Source) -> Anchor:
    row = SnapshotRow(
        id=new_id(),
        server_id=container.server_id,
        generation_id=_live(container),
        container_id=container.id,
        job_id=ctx.job.id,
        sequence=0,
    )
    async with ctx.write() as tx:
        await snapshots.insert(tx, row)
    await ctx.remember(anchor=row.id)
    path = generation_path(container.id, row.generation_id)
    asked_at = now()
    snapshot = await source.snapshot(path, snapshot_name(row.id), ctx.tag)
    async with ctx.write() as tx:
        await snapshots.taken(tx, row.id, snapshot.guid, asked_at)
        if snapshot.name == snapshot_name(row.id):
            await looks.written(tx, container.id, asked_at)
        else:  # an older one, which has all there is: syncs ask for it by its own name
            own_id = snapshot_id(snapshot.name)
            await snapshots.was_there(tx, replace(row, id=own_id, guid=snapshot.guid))
    return Anchor(snapshot.guid, asked_at)


def _live(container: Container) -> str:
    if container.generation_id is None:
        raise JobError("SOURCE_CONTAINER_NOT_FOUND", "the source has no live generation")
    return container.generation_id
