"""Copy: an independent duplicate of a container, made on the server of the copy."""

from __future__ import annotations

from daemon.actions import bring, generations, holds
from daemon.actions.context import Context, kept_result
from daemon.model import Job, Json, Status
from daemon.store import containers
from daemon.store.database import Tx


async def run(ctx: Context) -> Json | None:
    """Brings the source's state here and makes it the copy's first generation."""
    container = await ctx.container()
    if generations.switched(ctx, container):
        await generations.go_live(ctx, container)
        return kept_result(ctx)
    source = await ctx.source_container()
    async with bring.reach(ctx, source.server_id) as link:
        anchor = await bring.anchor_of(ctx, source, link)
        come = await bring.fetch(ctx, bring.Pull(container, source, link, anchor))
        await bring.put_live(ctx, container, source, come)
        await holds.let_go(ctx, come.held, link, ctx.storage)
    return kept_result(ctx)


async def abandon(tx: Tx, job: Job, reason: str) -> None:
    """A first copy that fails leaves the copy in error, with the reason; a sync tries again."""
    container = await containers.get(tx, job.container_id)
    if container is not None and container.status is Status.COPYING:
        await containers.change(tx, container.id, status=Status.ERROR, status_reason=reason)
