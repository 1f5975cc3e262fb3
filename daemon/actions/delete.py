"""Delete: the container goes from the catalogue; collect takes its storage down.

Its generations are retired here. What other containers or servers still need of them (snapshots
that they list, that are bases or origins) stays, as mirrors, for as long as it is needed.
"""

from __future__ import annotations

import asyncio

from daemon.actions.context import Context
from daemon.actions.generations import drop_current
from daemon.model import Container, Job, Json, Status
from daemon.store import bases, containers, datasets
from daemon.store.database import Tx


async def run(ctx: Context) -> Json | None:
    """Stops the container and forgets it, in one transaction."""
    async with ctx.db.read() as tx:
        container = await containers.get(tx, ctx.job.container_id)
    if container is not None:
        await ctx.step("switch")  # too late to cancel: what is stopped for this is to go
        await ctx.runtime.remove(container)
        await _forget(ctx, container)
    await asyncio.to_thread(drop_current, ctx.mount_root, ctx.job.container_id)
    return None


async def abandon(tx: Tx, job: Job, reason: str) -> None:
    """A delete that failed leaves the container as it was; it may be asked for again."""
    container = await containers.get(tx, job.container_id)
    if container is not None and container.status is Status.DELETING:
        was = Status(str(job.params["was"]))
        await containers.change(tx, container.id, status=was, status_reason=reason)


async def _forget(ctx: Context, container: Container) -> None:
    async with ctx.write() as tx:
        for row in await datasets.of_container(tx, container.id):
            await datasets.change(
                tx, row.id, retired=True, trimmed=False, container_id=None, settled_guid=None
            )
        await bases.drop_source(tx, container.id)
        await containers.delete(tx, container.id)
