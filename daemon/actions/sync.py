"""Sync: brings a copy up to date with its source."""

from __future__ import annotations

from daemon.actions import bring, generations, holds
from daemon.actions.bring import Pull
from daemon.actions.context import Context, kept_result
from daemon.model import Container, Job, Json, generation_path, new_id, snapshot_name
from daemon.store import datasets
from daemon.store.database import Tx


async def run(ctx: Context) -> Json | None:
    """Ships what is new while the copy runs, then switches; does less where nothing is new."""
    container = await ctx.container()
    if generations.switched(ctx, container):
        await generations.go_live(ctx, container)
        return kept_result(ctx)
    source = await ctx.source_container()
    async with bring.reach(ctx, source) as link:
        anchor = await bring.anchor_of(ctx, source, link)
        pull = Pull(container, source, link, anchor)
        if anchor.guid == container.taken_guid and not _forced(ctx):
            return await _unchanged(ctx, pull)
        come = await bring.fetch(ctx, pull)
        await bring.put_live(ctx, container, source, come)
        await holds.let_go(ctx, come.held, link, ctx.storage)
    return kept_result(ctx)


async def abandon(tx: Tx, job: Job, reason: str) -> None:
    """A sync that fails or is cancelled leaves the copy as it was."""
    await generations.as_before(tx, job)


def _forced(ctx: Context) -> bool:
    return ctx.job.params.get("strategy", "auto") != "auto"


async def _unchanged(ctx: Context, pull: Pull) -> Json | None:
    """The source is in the state that this copy last took. If the copy was written or restored
    since, it gets a new generation from what is here already; if not, it is not even stopped.
    Snapshots that the source has taken since come in either case."""
    again = await _left_state(ctx, pull.copy)
    come = await bring.fetch(ctx, pull, with_state=again)
    come.strategy = "unchanged"
    if again:
        await bring.put_live(ctx, pull.copy, pull.source, come)
        await holds.let_go(ctx, come.held, pull.link, ctx.storage)
        return kept_result(ctx)
    async with ctx.write() as tx:
        await ctx.commits(tx)
        await bring.taken(tx, ctx, pull.copy, pull.source, come)
        await generations.as_before(tx, ctx.job)
    result = bring.result(ctx, come)
    await holds.let_go(ctx, come.held, pull.link, ctx.storage)
    return result


async def _left_state(ctx: Context, copy: Container) -> bool:
    """Whether the copy's filesystem is no longer the state that it last took."""
    live_id = copy.generation_id or ""
    async with ctx.db.read() as tx:
        live = await datasets.get(tx, live_id)
    if live is None or live.origin_guid != copy.taken_guid:
        return True
    return await ctx.storage.written(generation_path(copy.id, live_id), snapshot_name(new_id()))
