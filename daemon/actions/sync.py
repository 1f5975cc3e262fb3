"""Sync: brings a copy up to date with its source."""

from __future__ import annotations

from daemon.actions import bring, generations, history, holds
from daemon.actions.anchors import Anchor
from daemon.actions.bring import Arrival, Pull
from daemon.actions.context import Context, kept_result
from daemon.model import Container, Job, Json, generation_path, new_id, now, snapshot_name
from daemon.store import datasets, snapshots
from daemon.store.database import Tx
from transfer.model import Guid
from transfer.storage.base import Source


async def run(ctx: Context) -> Json | None:
    """Ships what is new while the copy runs, then switches; does less where nothing is new."""
    container = await ctx.container()
    if generations.switched(ctx, container):
        await generations.go_live(ctx, container)
        return kept_result(ctx)
    source = await ctx.source_container()
    async with bring.reach(ctx, source.server_id) as link:
        if (kept := await _nothing_new(ctx, container, source, link)) is not None:
            pull = Pull(container, source, link, kept)
            return await _keep(ctx, pull, Arrival(kept, "unchanged", []))
        anchor = await bring.anchor_of(ctx, source, link)
        pull = Pull(container, source, link, anchor)
        if anchor.guid == container.taken_guid and not _forced(ctx):
            return await _same_state(ctx, pull)
        come = await bring.fetch(ctx, pull)
        await bring.put_live(ctx, container, source, come)
        await holds.let_go(ctx, come.held, link, ctx.storage)
    return kept_result(ctx)


async def abandon(tx: Tx, job: Job, reason: str) -> None:
    """A sync that fails or is cancelled leaves the copy as it was."""
    await generations.as_before(tx, job)


def _forced(ctx: Context) -> bool:
    return ctx.job.params.get("strategy", "auto") != "auto"


async def _nothing_new(
    ctx: Context, copy: Container, source: Container, link: Source
) -> Anchor | None:
    """The state that the copy has, where source and copy both are what they were when it was taken
    and there is no history to come; None where there may be more to do. It is cheap: nothing is
    kept from it, so that nothing is held either."""
    if _forced(ctx) or "guid" in ctx.job.params or ctx.job.checkpoint:
        return None
    async with ctx.db.read() as tx:
        taken = await snapshots.with_guid(tx, source, copy.taken_guid or "")
        live = await datasets.get(tx, copy.generation_id or "")
    if taken is None or live is None:
        return None
    if live.origin_guid != copy.taken_guid or live.settled_guid is None:
        return None
    if await history.to_inherit(ctx, copy, source):
        return None
    await ctx.step("snapshot")
    at = now()
    async with ctx.watch.lap("snapshot"):
        # A generation's settled state has its own id for a name (generations.make).
        ours = await _still(ctx.storage, copy.id, live.id, live.id)
        if ours != live.settled_guid:
            return None
        theirs = await _still(link, source.id, taken.generation_id, taken.id)
    return Anchor(taken.guid, at) if taken.guid and theirs == taken.guid else None


async def _still(source: Source, container_id: str, generation_id: str, since: str) -> Guid | None:
    path = generation_path(container_id, generation_id)
    return await source.unchanged(path, snapshot_name(since), snapshot_name(new_id()))


async def _keep(ctx: Context, pull: Pull, come: Arrival) -> Json:
    """The copy stays live as it is; what has come besides, if anything, is written down."""
    async with ctx.write() as tx:
        await ctx.commits(tx)
        await bring.taken(tx, ctx, pull.copy, pull.source, come)
        await generations.as_before(tx, ctx.job)
    return bring.result(ctx, come)


async def _same_state(ctx: Context, pull: Pull) -> Json | None:
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
    result = await _keep(ctx, pull, come)
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
