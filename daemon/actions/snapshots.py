"""User snapshots: taken, taken off the list, expired. What is no longer listed is collect's."""

from __future__ import annotations

from datetime import datetime, timedelta

from daemon.actions import holds
from daemon.actions.context import Context, kept_result
from daemon.actions.history import free_name
from daemon.errors import JobError
from daemon.model import (
    Container,
    Job,
    Json,
    SnapshotRow,
    UserSnapshot,
    generation_path,
    now,
    snapshot_name,
)
from daemon.store import looks, snapshots, user_snapshots
from daemon.store.database import Tx
from transfer.model import Snapshot


async def take(ctx: Context) -> Json | None:
    """Takes a snapshot of the live filesystem and lists it."""
    container = await ctx.container()
    snapshot_id = str(ctx.job.params["snapshot"])
    async with ctx.db.read() as tx:
        listed = await user_snapshots.get(tx, container.id, snapshot_id)
    if listed is None:
        listed = await _take(ctx, container, snapshot_id)
    await holds.let_go(ctx, [listed.guid], ctx.storage)
    return {"snapshot": listed.name, "inconsistent_files": listed.inconsistent_files}


async def _take(ctx: Context, container: Container, snapshot_id: str) -> UserSnapshot:
    await holds.announce(ctx, ctx.server_id)
    row = await _register(ctx, container, snapshot_id)
    await ctx.step("snapshot")
    path = generation_path(container.id, row.generation_id)
    found = await ctx.storage.snapshot(path, snapshot_name(row.id), ctx.tag)
    return await _list(ctx, container, row, found)


async def _register(ctx: Context, container: Container, snapshot_id: str) -> SnapshotRow:
    """The snapshot's row, and when it was first asked for: what was written before then is in
    it, whichever attempt takes it."""
    if container.generation_id is None:
        raise JobError("SNAPSHOT_FAILED", "the container has no live generation")
    async with ctx.write() as tx:
        known = await snapshots.get(tx, snapshot_id)
        if known is not None:
            return known
        row = SnapshotRow(
            id=snapshot_id,
            server_id=ctx.server_id,
            generation_id=container.generation_id,
            container_id=container.id,
            job_id=ctx.job.id,
            sequence=0,
            taken_at=now(),
        )
        return await snapshots.insert(tx, row)


async def _list(
    ctx: Context, container: Container, row: SnapshotRow, found: Snapshot
) -> UserSnapshot:
    taken_at = row.taken_at or now()
    async with ctx.write() as tx:
        await ctx.commits(tx)
        await snapshots.taken(tx, row.id, found.guid, taken_at)
        name = f"snap-{taken_at:%Y%m%d-%H%M%S}"
        entry = UserSnapshot(
            container_id=container.id,
            id=row.id,
            name=free_name(name, await user_snapshots.names(tx, container.id)),
            guid=found.guid,
            sequence=row.sequence,
            created_at=taken_at,
            alias=_text(ctx.job.params.get("alias")),
            expires_at=_expiry(ctx.job, taken_at),
            referenced_bytes=found.referenced_bytes,
            unique_bytes=found.unique_bytes,
            inconsistent_files=found.inconsistent_files,
        )
        await user_snapshots.insert(tx, entry)
        if found.name == snapshot_name(row.id):
            await looks.written(tx, container.id, taken_at)
    return entry


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _expiry(job: Job, taken_at: datetime) -> datetime | None:
    days = job.params.get("expiry_days")
    return taken_at + timedelta(days=days) if isinstance(days, int | float) else None


async def delete(ctx: Context) -> Json | None:
    """Takes one entry off the list; one that is gone is no error."""
    async with ctx.write() as tx:
        await ctx.commits(tx)
        snapshot_id = str(ctx.job.params["snapshot"])
        entry = await user_snapshots.get(tx, ctx.job.container_id, snapshot_id)
        if entry is not None:
            await user_snapshots.drop(tx, entry)
    return None


async def expire(ctx: Context) -> Json | None:
    """Takes off the list what is over; what another job reads is not, until that has ended."""
    if (kept := kept_result(ctx)) is not None:
        return kept
    async with ctx.write() as tx:
        over = [
            entry
            for entry in await user_snapshots.expired(tx, ctx.server_id, now())
            if entry.container_id == ctx.job.container_id
        ]
        for entry in over:
            await user_snapshots.drop(tx, entry)
        await ctx.commits(tx, result={"expired": [entry.name for entry in over]})
    return kept_result(ctx)


async def abandon(tx: Tx, job: Job, reason: str) -> None:
    """The container stays as it is; what was taken and not listed is collected."""
