"""What copy and sync share: the source's state comes to this server, and goes live."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from daemon.actions import anchors, generations
from daemon.actions.anchors import Anchor
from daemon.actions.context import Context
from daemon.actions.ledger import CatalogueLedger
from daemon.model import Base, Container, Json
from daemon.store import bases, containers, holdings
from daemon.store.database import Tx
from transfer.errors import TransferError
from transfer.model import Guid
from transfer.replicate import Outcome, Replication, Request, release
from transfer.storage.base import Source

# Room that a transfer leaves free: a file system that is full to the last block cannot even
# destroy snapshots.
RESERVE_BYTES = 32 << 20


@dataclass
class Arrival:
    """The source's state on this server, held on both sides until the job lets go."""

    anchor: Anchor
    strategy: str
    logical_bytes: int = 0
    steps: list[Json] = field(default_factory=list)
    bases: list[Base] | None = None
    held: set[Guid] = field(default_factory=set)


@asynccontextmanager
async def reach(ctx: Context, source: Container) -> AsyncIterator[Source]:
    """The source container's server: this one's storage, or a link to the other."""
    if source.server_id == ctx.server_id:
        yield ctx.storage
        return
    server = await ctx.server(source.server_id)
    async with ctx.connect(server, ctx.job.id) as peer:
        ctx.peer = peer
        yield peer


async def fetch(ctx: Context, source: Container, link: Source, anchor: Anchor) -> Arrival:
    """Makes the anchor exist on this server."""
    if source.server_id == ctx.server_id:
        return Arrival(anchor, "clone", held={anchor.guid})
    ledger = CatalogueLedger(ctx, source.server_id)
    replication = Replication(link, ctx.storage, ledger, ctx.report)
    request = Request(
        source_path=anchor.path,
        wanted=(anchor.guid,),
        tag=ctx.tag,
        full=ctx.job.params.get("strategy") == "full",
        reserve_bytes=RESERVE_BYTES,
    )
    await ctx.step("transfer")
    async with ctx.watch.lap("transfer"):
        outcome = await replication.ensure(request)
    ctx.watch.move(outcome.plan_seconds, "transfer", "plan")
    return Arrival(
        anchor,
        outcome.strategy,
        logical_bytes=outcome.logical_bytes,
        steps=_steps(outcome),
        bases=ledger.bases(outcome.source, anchor.guid, source.id),
        held=outcome.held,
    )


def _steps(outcome: Outcome) -> list[Json]:
    return [
        {
            "kind": str(receipt.step.kind),
            "landing": str(receipt.step.landing),
            "snapshot": receipt.step.snapshot,
            "base": receipt.step.base,
            "bytes_logical": receipt.logical_bytes,
        }
        for receipt in outcome.receipts
    ]


async def put_live(ctx: Context, container: Container, source: Container, come: Arrival) -> None:
    """A new generation from what has arrived, and the switch to it."""
    await ctx.step("verify")
    async with ctx.watch.lap("verify"):
        # Whatever way it came, the state to take is here by its guid, and stays.
        await ctx.storage.hold([come.anchor.guid], ctx.tag)
    began = time.monotonic()
    generation = await generations.make(ctx, container, come.anchor.guid)

    async def commit(tx: Tx, downtime_seconds: float) -> Json:
        await taken(tx, ctx, container, source, come)
        ctx.watch.seconds["switch"] = round(time.monotonic() - began, 6)
        return result(ctx, come, downtime_seconds)

    await generations.switch(ctx, container, generation, commit)


async def taken(
    tx: Tx, ctx: Context, container: Container, source: Container, come: Arrival
) -> None:
    """Writes down which state of the source the copy now has, and what both servers keep."""
    at = come.anchor.taken_at
    await containers.change(
        tx, container.id, taken_guid=come.anchor.guid, last_synced_at=at, updated_at=at
    )
    if come.bases is not None:
        await bases.replace(tx, source.id, ctx.server_id, source.server_id, come.bases)


async def let_go(ctx: Context, link: Source, come: Arrival) -> None:
    """Releases what the job held. What cannot be released now is the collector's, and so is what
    earlier attempts held: they had plans of their own, and were killed before they told."""
    await ctx.step("release")
    try:
        await release(link, ctx.storage, ctx.tag, come.held)
    except TransferError:
        return
    if ctx.job.attempt > 1:
        return
    async with ctx.db.write() as tx:
        for server_id in await holdings.servers_of(tx, ctx.job.id):
            await holdings.drop(tx, ctx.job.id, server_id)


async def anchor_of(ctx: Context, source: Container, link: Source) -> Anchor:
    """The state of the source that this job takes."""
    await ctx.step("snapshot")
    async with ctx.watch.lap("snapshot"):
        return await anchors.take(ctx, source, link)


def result(ctx: Context, come: Arrival, downtime_seconds: float = 0.0) -> Json:
    """A copy's or sync's result, as the API shows it."""
    wire_bytes = ctx.wire_bytes()
    ratio = come.logical_bytes / wire_bytes if come.logical_bytes and wire_bytes else None
    return {
        "strategy": come.strategy,
        "bytes_logical": come.logical_bytes,
        "bytes_wire": wire_bytes,
        "compression_ratio": round(ratio, 3) if ratio else None,
        "steps": come.steps,
        "seconds": {
            stage: ctx.watch.seconds.get(stage, 0.0)
            for stage in ("plan", "snapshot", "transfer", "verify", "switch")
        },
        "downtime_seconds": round(downtime_seconds, 6),
    }
