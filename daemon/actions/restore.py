"""Restore: a new generation from one of the container's own or inherited snapshots.

Nothing is rolled back: what was live stays as a generation for as long as a snapshot on it is
listed, so that restoring an old snapshot loses no newer one.
"""

from __future__ import annotations

from daemon.actions import generations, holds
from daemon.actions.context import Context, kept_result
from daemon.model import Job, Json, now
from daemon.store import user_snapshots
from daemon.store.database import Tx


async def run(ctx: Context) -> Json | None:
    """Makes the snapshot's state live; the container runs afterwards if it ran before."""
    container = await ctx.container()
    if generations.switched(ctx, container):
        await generations.go_live(ctx, container)
        return kept_result(ctx)
    snapshot_id, guid = str(ctx.job.params["snapshot"]), str(ctx.job.params["guid"])
    await holds.announce(ctx, ctx.server_id)
    await ctx.step("verify")
    await ctx.storage.hold([guid], ctx.tag)
    generation = await generations.make(ctx, container, guid)

    async def commit(tx: Tx, downtime_seconds: float) -> Json:
        await user_snapshots.change(tx, container.id, snapshot_id, last_used_at=now())
        entry = await user_snapshots.get(tx, container.id, snapshot_id)
        return {
            "snapshot": entry.name if entry else None,
            "downtime_seconds": round(downtime_seconds, 6),
        }

    await generations.switch(ctx, container, generation, commit)
    await holds.let_go(ctx, [guid], ctx.storage)
    return kept_result(ctx)


async def abandon(tx: Tx, job: Job, reason: str) -> None:
    """A restore that fails or is cancelled leaves the container as it was."""
    await generations.as_before(tx, job)
