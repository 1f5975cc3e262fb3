"""Holds: they keep what a job uses from being collected, on every server that it reads.

The catalogue knows first on which servers a job may have holds, so that what a killed job leaves
can be found and released.
"""

from __future__ import annotations

from collections.abc import Collection

from daemon.actions.context import Context
from daemon.store import holdings
from transfer.at_once import at_once
from transfer.errors import TransferError
from transfer.model import Guid
from transfer.storage.base import Source


async def announce(ctx: Context, *server_ids: str) -> None:
    """Notes that the job may have holds on these servers from now on."""
    async with ctx.write() as tx:
        for server_id in server_ids:
            await holdings.add(tx, ctx.job.id, server_id)


async def let_go(ctx: Context, guids: Collection[Guid], *sources: Source) -> None:
    """Releases what the job held. What cannot be released now is the collector's, and so is what
    earlier attempts held: they had plans of their own, and were killed before they told."""
    await ctx.step("release")
    try:
        # The source's server may be this one.
        sides = dict.fromkeys(sources)
        await at_once(*(side.release(sorted(guids), ctx.tag) for side in sides))
    except TransferError:
        return
    if ctx.job.attempt > 1:
        return
    async with ctx.write() as tx:
        for server_id in await holdings.servers_of(tx, ctx.job.id):
            await holdings.drop(tx, ctx.job.id, server_id)
