"""Create: a container from an image, or from a directory of its server."""

from __future__ import annotations

import os

from daemon.actions import bring, generations
from daemon.actions.context import Context, kept_result
from daemon.actions.images import brought
from daemon.model import (
    Container,
    DatasetRow,
    Job,
    Json,
    Role,
    SnapshotRow,
    Status,
    mirror_path,
    new_id,
    now,
    snapshot_name,
)
from daemon.store import containers, datasets, snapshots
from daemon.store.database import Tx
from transfer.errors import SourcePathInvalid
from transfer.model import Guid, Progress


async def run(ctx: Context) -> Json | None:
    """Clones the image, which comes to this server first where it is not here; or takes the
    directory in, frozen as a mirror's only snapshot, and clones that."""
    container = await ctx.container()
    if generations.switched(ctx, container):
        await generations.go_live(ctx, container)
    elif "image" in ctx.job.params:
        async with brought(ctx) as come:
            await bring.put_live(ctx, container, None, come)
    else:
        await _from_directory(ctx, container)
    return kept_result(ctx) or None


async def _from_directory(ctx: Context, container: Container) -> None:
    await ctx.step("take_in")
    guid = await _take_in(ctx, container)
    generation = await generations.make(ctx, container, guid)

    async def commit(tx: Tx, _downtime_seconds: float) -> Json:
        # Until now the mirror was half-made, and so kept for this job alone.
        await datasets.change(tx, ctx.recall("mirror") or "", ready=True, trimmed=True)
        return {}

    await generations.switch(ctx, container, generation, commit)


async def abandon(tx: Tx, job: Job, reason: str) -> None:
    """Without a live generation the container is in error."""
    container = await containers.get(tx, job.container_id)
    if container is not None and container.status is Status.CREATING:
        await containers.change(tx, container.id, status=Status.ERROR, status_reason=reason)


async def _take_in(ctx: Context, container: Container) -> Guid:
    tree = allowed_tree(str(ctx.job.params["source_path"]), ctx.import_roots)
    mirror_id = await _register(ctx, container)
    row = await _intended(ctx)
    done_bytes = 0

    def on_bytes(count: int) -> None:
        nonlocal done_bytes
        done_bytes += count
        ctx.report(Progress(done_bytes, done_bytes))

    path = mirror_path(mirror_id)
    snapshot = await ctx.storage.take_in(tree, path, snapshot_name(row.id), on_bytes)
    async with ctx.write() as tx:
        await snapshots.taken(tx, row.id, snapshot.guid, now())
    return snapshot.guid


def allowed_tree(path: str, import_roots: tuple[str, ...]) -> str:
    """The directory that `path` really is. Raises SourcePathInvalid unless it is an absolute,
    readable directory under one of the import roots, after every link is followed."""
    if not os.path.isabs(path) or "\0" in path:
        raise SourcePathInvalid("source_path must be absolute", path=path)
    real = os.path.realpath(path)
    roots = [os.path.realpath(root) for root in import_roots]
    if not any(os.path.commonpath([real, root]) == root for root in roots):
        raise SourcePathInvalid("source_path is under no import root", path=path)
    if not os.path.isdir(real) or not os.access(real, os.R_OK | os.X_OK):
        raise SourcePathInvalid("source_path is no readable directory", path=path)
    return real


async def _register(ctx: Context, container: Container) -> str:
    """The mirror's row: what is taken in is a generation of its own, replicated nowhere else."""
    known = ctx.recall("mirror")
    if known is not None:
        return known
    mirror_id = new_id()
    async with ctx.write() as tx:
        row = DatasetRow(
            id=mirror_id,
            server_id=ctx.server_id,
            role=Role.MIRROR,
            generation_id=mirror_id,
            path=mirror_path(mirror_id),
            job_id=ctx.job.id,
        )
        await datasets.insert(tx, row)
    await ctx.remember(mirror=mirror_id)
    return mirror_id


async def _intended(ctx: Context) -> SnapshotRow:
    async with ctx.write() as tx:
        known = await snapshots.get(tx, ctx.recall("first") or "")
        if known is not None:
            return known
        row = SnapshotRow(
            id=new_id(),
            server_id=ctx.server_id,
            generation_id=ctx.recall("mirror") or "",
            container_id=ctx.job.container_id,
            job_id=ctx.job.id,
            sequence=0,
        )
        await snapshots.insert(tx, row)
    await ctx.remember(first=row.id)
    return row
