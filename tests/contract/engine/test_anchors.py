"""Which state of its source a job takes, and who ships it here."""

from __future__ import annotations

import asyncio

import pytest

from daemon.actions import anchors, holds
from daemon.actions.context import Context
from daemon.actions.ledger import CatalogueLedger
from daemon.errors import JobError
from daemon.model import Container, DatasetRow, JobType, Role, generation_path, new_id
from daemon.states import Move
from daemon.store import datasets, jobs, leases, snapshots
from tests.engine_world import World
from transfer.errors import SourceChanged
from transfer.model import Landing, Step, StepKind


async def attempt(world: World, source: Container) -> Context:
    """An attempt at a copy of the source on the other server."""
    _, job = await world.begin_copy(source, name=f"c-{new_id()}")
    return world.context(await world.claim(job))


async def again(world: World, ctx: Context) -> Context:
    """The job's next attempt."""
    await world.end(ctx.job, Move.REQUEUE)
    return world.context(await world.claim(ctx.job))


async def take(world: World, ctx: Context, source: Container) -> anchors.Anchor:
    return await anchors.take(ctx, await world.get(source.id), world.here.storage)


async def write(world: World, source: Container, text: str) -> None:
    (await world.live(source) / "file").write_text(text)


# --- anchors -------------------------------------------------------------------------------------


async def test_a_retry_uses_its_own_anchor_again(world: World, source: Container) -> None:
    ctx = await attempt(world, source)
    first = await take(world, ctx, source)
    await write(world, source, "later")
    assert await take(world, await again(world, ctx), source) == first


async def test_an_anchor_newer_than_the_job_is_shared(world: World, source: Container) -> None:
    one, other = await attempt(world, source), await attempt(world, source)
    first = await take(world, one, source)
    await write(world, source, "later")
    assert await take(world, other, source) == first
    (held,) = [s for s in (await world.forest(world.here)).snapshots() if s.holds]
    assert (held.guid, held.holds) == (first.guid, 2)


async def test_an_anchor_older_than_the_job_is_not_used(world: World, source: Container) -> None:
    first = await take(world, await attempt(world, source), source)
    await write(world, source, "later")
    late = await attempt(world, source)
    assert (await take(world, late, source)).guid != first.guid


async def test_a_source_that_did_not_change_gets_no_second_snapshot(
    world: World, source: Container
) -> None:
    first = await take(world, await attempt(world, source), source)
    second = await take(world, await attempt(world, source), source)
    assert second.guid == first.guid
    assert second.taken_at >= first.taken_at


async def test_an_anchor_that_is_gone_is_taken_anew(world: World, source: Container) -> None:
    ctx = await attempt(world, source)
    first = await take(world, ctx, source)
    await world.here.storage.release([first.guid], ctx.tag)
    await world.here.storage.destroy_snapshot(world.path(source), first.guid)
    second = await take(world, await again(world, ctx), source)
    assert second.guid != first.guid


async def test_an_anchor_of_a_generation_that_is_no_longer_live_is_not_shared(
    world: World, source: Container
) -> None:
    copy = await world.copy(source, world.here)
    reader = await attempt(world, copy)
    other = await attempt(world, copy)
    first = await take(world, reader, copy)
    await write(world, source, "later")
    await world.sync(copy)
    found = await take(world, other, copy)
    assert found != first
    live = await world.forest(world.here)
    assert live.find(found.guid) in live.datasets[world.path(await world.get(copy.id))].snapshots


async def test_an_anchor_that_was_never_noted_is_left_to_the_collector(
    world: World, source: Container
) -> None:
    """Killed between the snapshot and its row: the next attempt takes another one."""
    ctx = await attempt(world, source)
    first = await take(world, ctx, source)
    async with world.db.write() as tx:
        row = await snapshots.get(tx, ctx.recall("anchor") or "")
        assert row is not None
        await snapshots.delete(tx, row.id)
    await write(world, source, "later")
    ctx = await again(world, ctx)
    assert (await take(world, ctx, source)).guid != first.guid
    await world.end(ctx.job, Move.FAIL)
    await world.settle(world.here)
    assert [s for s in (await world.forest(world.here)).snapshots() if s.holds] == []


async def test_a_source_without_a_live_generation_has_no_anchor(world: World) -> None:
    empty = await world.add("empty")
    ctx = await attempt(world, empty)
    with pytest.raises(JobError) as refused:
        await take(world, ctx, empty)
    assert refused.value.code == "SOURCE_CONTAINER_NOT_FOUND"


# --- mirrors and turns ---------------------------------------------------------------------------


async def ledger_of(world: World, ctx: Context, source: Container) -> tuple[CatalogueLedger, Step]:
    """The ledger of an attempt that has looked at the source, and the step to ship it."""
    ledger = CatalogueLedger(ctx, world.here.id)
    path = world.path(await world.get(source.id))
    anchor = await take(world, ctx, source)
    await ledger.mirrors(await world.here.storage.lineage([anchor.guid]))
    return ledger, Step(StepKind.CONTENT, path, anchor.guid, "h-1", None, Landing.NEW)


async def test_mirrors_are_found_by_the_generation(world: World, source: Container) -> None:
    await world.copy(source)
    ctx = await attempt(world, source)
    ledger = CatalogueLedger(ctx, world.here.id)
    anchor = await take(world, ctx, source)
    lineage = await world.here.storage.lineage([anchor.guid])
    found = await ledger.mirrors(lineage)
    assert found.keys() == lineage.datasets.keys()
    assert [len(paths) for paths in found.values()] == [1, 1]
    there = (await world.forest(world.there)).datasets
    assert {path for paths in found.values() for path in paths} <= there.keys()


async def test_a_dataset_of_the_source_without_a_row_is_a_change(
    world: World, source: Container
) -> None:
    ctx = await attempt(world, source)
    anchor = await take(world, ctx, source)
    async with world.db.write() as tx:
        await datasets.delete(tx, source.generation_id or "")
    ledger = CatalogueLedger(ctx, world.here.id)
    with pytest.raises(SourceChanged):
        await ledger.mirrors(await world.here.storage.lineage([anchor.guid]))


async def test_a_retry_goes_on_with_the_mirror_that_it_began(
    world: World, source: Container
) -> None:
    ctx = await attempt(world, source)
    ledger, step = await ledger_of(world, ctx, source)
    here = await world.forest(world.there)
    first = await ledger.new_mirror(step, here)
    assert await ledger.new_mirror(step, here) == first
    ctx = await again(world, ctx)
    ledger, step = await ledger_of(world, ctx, source)
    assert await ledger.new_mirror(step, here) == first


async def test_another_job_and_a_whole_mirror_are_not_gone_on_with(
    world: World, source: Container
) -> None:
    ledger, step = await ledger_of(world, await attempt(world, source), source)
    other, _ = await ledger_of(world, await attempt(world, source), source)
    here = await world.forest(world.there)
    first = await ledger.new_mirror(step, here)
    assert await other.new_mirror(step, here) != first
    await ledger.landed(step, first)
    assert await ledger.new_mirror(step, here) != first


async def test_a_mirror_that_has_a_snapshot_already_is_not_begun_again(
    world: World, source: Container
) -> None:
    """Killed between the last block and `landed`."""
    ledger, step = await ledger_of(world, await attempt(world, source), source)
    first = await ledger.new_mirror(step, await world.forest(world.there))
    await world.there.storage.apply(step, first, world.here.storage, lambda _: None)
    assert await ledger.new_mirror(step, await world.forest(world.there)) != first


async def test_a_generation_is_shipped_by_one_job_at_a_time(
    world: World, source: Container
) -> None:
    first, step = await ledger_of(world, await attempt(world, source), source)
    second, _ = await ledger_of(world, await attempt(world, source), source)
    order: list[str] = []
    waits = asyncio.Event()

    async def wait() -> None:
        waits.set()
        async with second.turn(step):
            order.append("second begins")

    async with first.turn(step):
        waiting = asyncio.create_task(wait())
        await waits.wait()
        async with world.db.read() as tx:
            assert await leases.on_server(tx, world.there.id) == {source.generation_id}
        order.append("first ends")
    await waiting
    assert order == ["first ends", "second begins"]
    async with world.db.read() as tx:
        assert await leases.on_server(tx, world.there.id) == frozenset()


@pytest.mark.parametrize("end", [Move.FAIL, Move.CANCEL, Move.REQUEUE])
async def test_the_turn_of_an_attempt_that_is_over_is_taken(
    world: World, source: Container, end: Move
) -> None:
    ctx = await attempt(world, source)
    ledger, step = await ledger_of(world, ctx, source)
    async with world.db.write() as tx:
        assert await leases.take(tx, world.there.id, source.generation_id or "", ctx.job)
    await world.end(ctx.job, end)
    if end is Move.REQUEUE:
        ctx = world.context(await world.claim(ctx.job))
        ledger, step = await ledger_of(world, ctx, source)
    else:
        ledger, step = await ledger_of(world, await attempt(world, source), source)
    async with ledger.turn(step), world.db.read() as tx:
        assert await leases.on_server(tx, world.there.id) == {source.generation_id}


async def test_three_copies_at_once_ship_the_source_once(world: World, source: Container) -> None:
    made = [await world.begin_copy(source, name=f"copy-{number}") for number in range(3)]
    results = await asyncio.gather(*(world.carry_out(job) for _, job in made))
    shipped = [step["snapshot"] for result in results for step in result["steps"]]
    assert len(shipped) == len(set(shipped)) == 2
    for copy, _ in made:
        assert (await world.live(copy) / "file").read_text() == "first"


# --- bases ---------------------------------------------------------------------------------------


async def test_bases_are_the_newest_common_snapshot_of_each_generation(
    world: World, source: Container
) -> None:
    """For both servers, of every generation that the lineage passes; keyed by generation."""
    await world.copy(source)
    ctx = await attempt(world, source)
    ledger = CatalogueLedger(ctx, world.here.id)
    anchor = await take(world, ctx, source)
    lineage = await world.here.storage.lineage([anchor.guid])
    await ledger.mirrors(lineage)
    found = ledger.bases(lineage, anchor.guid, source.id)
    assert {(base.holder, base.peer) for base in found} == {
        (world.here.id, world.there.id),
        (world.there.id, world.here.id),
    }
    by_generation = {base.generation_id: base.guid for base in found}
    origin = lineage.datasets[world.path(source)].origin
    assert by_generation.pop(source.generation_id or "") == anchor.guid
    assert list(by_generation.values()) == [origin]
    assert len(found) == 4


async def test_what_is_held_is_let_go_at_the_end(world: World, source: Container) -> None:
    await world.copy(source)
    for place in (world.here, world.there):
        assert [s for s in (await world.forest(place)).snapshots() if s.holds] == []


async def test_what_an_earlier_attempt_held_is_the_collectors(
    world: World, source: Container
) -> None:
    """Its plan was another one: only who looks at every snapshot can let go of it."""
    await write(world, source, "earlier")
    early = await world.here.storage.snapshot(world.path(source), f"h-{new_id()}", "test")
    await write(world, source, "then")
    _, job = await world.begin_copy(source)
    ctx = world.context(await world.claim(job))
    assert (await take(world, ctx, source)).guid != early.guid
    await world.here.storage.hold([early.guid], ctx.tag)
    await world.here.storage.release([early.guid], "test")
    await world.end(ctx.job, Move.REQUEUE)
    await write(world, source, "later")
    await world.carry_out(job)
    for place in (world.here, world.there):
        await world.settle(place)
        assert [s for s in (await world.forest(place)).snapshots() if s.holds] == []


async def test_a_peer_that_dies_at_the_release_costs_nothing(
    world: World, source: Container
) -> None:
    """The state is taken and committed; what is held is let go by the collector."""
    ctx = await attempt(world, source)
    anchor = await take(world, ctx, source)

    class Dead:
        async def release(self, guids: list[str], tag: str) -> None:
            raise SourceChanged("a fault of the test")

    await holds.let_go(ctx, {anchor.guid}, Dead())
    await world.end(ctx.job)
    await world.settle(world.here)
    assert [s for s in (await world.forest(world.here)).snapshots() if s.holds] == []


async def test_a_stale_row_of_the_target_is_no_mirror(world: World, source: Container) -> None:
    """A row whose dataset is not there is offered, and found missing by the planner."""
    mirror_id = new_id()
    row = DatasetRow(
        mirror_id,
        world.there.id,
        Role.MIRROR,
        source.generation_id or "",
        f"mirrors/{mirror_id}",
        job_id=new_id(),
    )
    async with world.db.write() as tx:
        await datasets.insert(tx, row)
    copy = await world.copy(source)
    assert (await world.live(copy) / "file").read_text() == "first"
    path = generation_path(copy.id, copy.generation_id or "")
    assert path in (await world.forest(world.there)).datasets


async def test_the_job_of_a_deleted_source_says_so(world: World, source: Container) -> None:
    copy = await world.copy(source)
    await world.remove(source)
    job = await world.claim(await world.begin_sync(copy))
    with pytest.raises(JobError) as refused:
        await world.context(job).source_container()
    assert refused.value.code == "SOURCE_CONTAINER_NOT_FOUND"
    async with world.db.read() as tx:
        assert (await jobs.get(tx, job.id) or job).type is JobType.SYNC
