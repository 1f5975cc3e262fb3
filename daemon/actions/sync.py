"""Sync: brings a copy up to date with its source."""

from __future__ import annotations

from daemon.actions import bring, generations
from daemon.actions.bring import Arrival
from daemon.actions.context import Context
from daemon.actions.copy import kept_result
from daemon.model import Container, Job, Json, Status, generation_path, new_id, snapshot_name
from daemon.store import containers, jobs
from daemon.store.database import Tx
from transfer.storage.base import Source


async def run(ctx: Context) -> Json | None:
    """Ships what is new while the copy runs, then switches; does less where nothing is new."""
    container = await ctx.container()
    if generations.switched(ctx, container):
        await generations.go_live(ctx, container)
        return kept_result(ctx)
    source = await ctx.source_container()
    async with bring.reach(ctx, source) as link:
        anchor = await bring.anchor_of(ctx, source, link)
        if anchor.guid == container.taken_guid and not _forced(ctx):
            return await _unchanged(
                ctx, container, source, link, Arrival(anchor, "unchanged", held={anchor.guid})
            )
        come = await bring.fetch(ctx, source, link, anchor)
        await bring.put_live(ctx, container, source, come)
        await bring.let_go(ctx, link, come)
    return kept_result(ctx)


async def abandon(tx: Tx, job: Job, reason: str) -> None:
    """A sync that fails or is cancelled leaves the copy as it was."""
    await _as_before(tx, job)


async def _as_before(tx: Tx, job: Job) -> None:
    """The status of before; a container that is to be deleted meanwhile stays so."""
    container = await containers.get(tx, job.container_id)
    if container is not None and container.status is Status.COPYING:
        await containers.change(tx, container.id, status=Status(str(job.params["was"])))


def _forced(ctx: Context) -> bool:
    return ctx.job.params.get("strategy", "auto") != "auto"


async def _unchanged(
    ctx: Context, container: Container, source: Container, link: Source, come: Arrival
) -> Json | None:
    """The source is in the state that this copy last took. If the copy was written since, it
    gets a new generation from what is here already; if not, it is not even stopped."""
    path = generation_path(container.id, container.generation_id or "")
    written = await ctx.storage.written(path, snapshot_name(new_id()))
    if written:
        arrived = await bring.fetch(ctx, source, link, come.anchor)
        arrived.strategy = "unchanged"
        await bring.put_live(ctx, container, source, arrived)
        await bring.let_go(ctx, link, arrived)
        return kept_result(ctx)
    async with ctx.db.write() as tx:
        await jobs.still_ours(tx, ctx.job)
        await bring.taken(tx, ctx, container, source, come)
        await _as_before(tx, ctx.job)
    result = bring.result(ctx, come)
    await bring.let_go(ctx, link, come)
    return result
