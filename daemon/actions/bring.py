"""What copy, sync and create from an image share: a state comes to this server, and goes live."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from daemon.actions import anchors, generations, history
from daemon.actions.anchors import Anchor
from daemon.actions.context import Context
from daemon.actions.ledger import CatalogueLedger
from daemon.model import Base, Container, Json, UserSnapshot, now
from daemon.store import bases, containers, user_snapshots
from daemon.store.database import Tx
from transfer.errors import SnapshotMissing, SourceChanged
from transfer.model import Guid
from transfer.replicate import Outcome, Replication, Request
from transfer.storage.base import Source

# Room that a transfer leaves free: a file system that is full to the last block cannot even
# destroy snapshots.
RESERVE_BYTES = 32 << 20


# How often the source's list is read again because a snapshot on it was deleted meanwhile.
LIST_READS_MAX = 5


@dataclass(frozen=True, slots=True)
class Pull:
    """What is to come: the state `anchor` of the container `source`, through `link`, to the
    container `copy`."""

    copy: Container
    source: Container
    link: Source
    anchor: Anchor


@dataclass
class Arrival:
    """The source's state on this server, held on both sides until the job lets go, and with it
    the `history` that the copy inherits. An image has none, and the time of its state says
    nothing."""

    anchor: Anchor
    strategy: str
    history: list[UserSnapshot]
    logical_bytes: int = 0
    steps: list[Json] = field(default_factory=list)
    bases: list[Base] | None = None
    held: set[Guid] = field(default_factory=set)


@asynccontextmanager
async def reach(ctx: Context, server_id: str) -> AsyncIterator[Source]:
    """The source's server: this one's storage, or a link to the other."""
    if server_id == ctx.server_id:
        yield ctx.storage
        return
    server = await ctx.server(server_id)
    async with ctx.connect(server, ctx.job.id) as peer:
        ctx.peer = peer
        yield peer


async def fetch(ctx: Context, pull: Pull, *, with_state: bool = True) -> Arrival:
    """Makes the history that the copy has yet to inherit exist on this server and, `with_state`,
    the state to take."""
    if pull.source.server_id == ctx.server_id:
        inherited = await history.to_inherit(ctx, pull.copy, pull.source)
        return Arrival(pull.anchor, "clone", inherited, held={pull.anchor.guid})
    inherited = await _held_history(ctx, pull)
    wanted = [snapshot.guid for snapshot in inherited]
    if with_state:
        wanted.append(pull.anchor.guid)
    come = Arrival(pull.anchor, "clone", inherited, held={pull.anchor.guid, *wanted})
    if wanted:
        await _ship(ctx, pull, come, tuple(dict.fromkeys(wanted)))
    return come


async def _held_history(ctx: Context, pull: Pull) -> list[UserSnapshot]:
    """What the copy is to inherit, held on the source: what is deleted from its list after this
    stays until the job ends."""
    for _ in range(LIST_READS_MAX):
        inherited = await history.to_inherit(ctx, pull.copy, pull.source)
        try:
            if inherited:
                await pull.link.hold(sorted({one.guid for one in inherited}), ctx.tag)
        except SnapshotMissing:
            continue
        return inherited
    raise SourceChanged("the source's snapshots change too fast, or one is lost")


async def _ship(ctx: Context, pull: Pull, come: Arrival, wanted: tuple[Guid, ...]) -> None:
    ledger = CatalogueLedger(ctx, pull.source.server_id)
    outcome = await ship(ctx, pull.link, ledger, come, wanted)
    if come.anchor.guid in wanted:
        come.bases = ledger.bases(outcome.source, come.anchor.guid, pull.source.id)


async def ship(
    ctx: Context, link: Source, ledger: CatalogueLedger, come: Arrival, wanted: tuple[Guid, ...]
) -> Outcome:
    """Makes the snapshots `wanted`, which `link` has and the job holds there, exist on this server
    and be held on both; puts down in `come` how that was done."""
    replication = Replication(link, ctx.storage, ledger, ctx.report)
    request = Request(
        wanted=wanted,
        tag=ctx.tag,
        full=ctx.job.params.get("strategy") == "full",
        reserve_bytes=RESERVE_BYTES,
        held=frozenset(wanted),
    )
    await ctx.step("transfer")
    async with ctx.watch.lap("transfer"):
        outcome = await replication.ensure(request)
        await ledger.whole(outcome.held)
    ctx.watch.move(outcome.plan_seconds, "transfer", "plan")
    come.strategy = outcome.strategy
    come.logical_bytes = outcome.logical_bytes
    come.steps = _steps(outcome)
    come.held |= outcome.held
    return outcome


def _steps(outcome: Outcome) -> list[Json]:
    return [
        {
            "kind": str(receipt.step.kind),
            "landing": str(receipt.step.landing),
            "snapshot": receipt.step.snapshot,
            "snapshots": len(receipt.step.makes),
            "base": receipt.step.base,
            "bytes_logical": receipt.logical_bytes,
        }
        for receipt in outcome.receipts
    ]


async def put_live(
    ctx: Context, container: Container, source: Container | None, come: Arrival
) -> None:
    """A new generation from what has arrived, and is held whatever way it came, and the switch to
    it. Without a `source` that is an image."""
    await ctx.step("verify")
    began = time.monotonic()
    generation = await generations.make(ctx, container, come.anchor.guid)
    verified_seconds = ctx.watch.seconds["verify"]

    async def commit(tx: Tx, downtime_seconds: float) -> Json:
        if source is not None:
            await taken(tx, ctx, container, source, come)
        ctx.watch.seconds["switch"] = round(time.monotonic() - began - verified_seconds, 6)
        return result(ctx, come, downtime_seconds)

    await generations.switch(ctx, container, generation, commit)


async def taken(
    tx: Tx, ctx: Context, container: Container, source: Container, come: Arrival
) -> None:
    """Writes down which state of the source the copy now has, which snapshots it lists, and what
    both servers keep."""
    at = come.anchor.taken_at
    await containers.change(
        tx, container.id, taken_guid=come.anchor.guid, last_synced_at=at, updated_at=at
    )
    await history.inherit(tx, container, source, come.history)
    if "snapshot" in ctx.job.params:
        used = str(ctx.job.params["snapshot"])
        await user_snapshots.change(tx, source.id, used, last_used_at=now())
    if come.bases is not None:
        await bases.replace(tx, source.id, ctx.server_id, source.server_id, come.bases)


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
