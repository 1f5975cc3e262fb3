"""What replication writes down: which datasets may have a generation's snapshots, and whose turn
it is."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

import pytest

from daemon.actions import ACTIONS
from daemon.actions.context import Context
from daemon.actions.ledger import CatalogueLedger
from daemon.model import Container, DatasetRow, Job, Role, generation_path, mirror_path, new_id
from daemon.states import Move
from daemon.store import datasets, leases
from tests.engine_world import Place, World
from tests.mortal import Killed
from transfer.errors import SourceChanged
from transfer.model import Dataset, Forest, Landing, Snapshot, Step, StepKind
from transfer.storage.base import Storage

OLD, OLDER = "a" * 24, "b" * 24


async def attempt(world: World, source: Container) -> Context:
    """An attempt at a copy of the source on the other server."""
    _, job = await world.begin_copy(source, name=f"c-{new_id()}")
    return world.context(await world.claim(job))


async def lineage(world: World, source: Container) -> Forest:
    """The source's live dataset alone."""
    return await world.here.storage.inspect([world.path(source)])


async def ledger_of(world: World, source: Container) -> CatalogueLedger:
    """The ledger of an attempt that has looked at the source."""
    ledger = CatalogueLedger(await attempt(world, source), world.here.id)
    await ledger.mirrors(await lineage(world, source))
    return ledger


async def register(
    world: World, generation_id: str, place: Place, *, ready: bool = True
) -> DatasetRow:
    """A mirror of a generation, as far as the catalogue knows."""
    mirror_id = new_id()
    path = mirror_path(mirror_id)
    row = DatasetRow(mirror_id, place.id, Role.MIRROR, generation_id, path, ready=ready)
    async with world.db.write() as tx:
        await datasets.insert(tx, row)
    return row


async def overlay(world: World, path: str, place: Place, layers: Collection[str]) -> None:
    async with world.db.write() as tx:
        row = await datasets.by_path(tx, place.id, path)
        assert row is not None
        await datasets.add_strata(tx, row, layers)


async def layers_of(world: World, row: DatasetRow) -> set[str]:
    async with world.db.read() as tx:
        return await datasets.generations(tx, row)


def step_of(world: World, source: Container, landing: Landing, base: str | None = None) -> Step:
    path = world.path(source)
    return Step(StepKind.INCREMENTAL, path, "9", f"h-{new_id()}", base, landing)


def forest_of(path: str, *guids: str) -> Forest:
    snapshots = tuple(Snapshot(guid, f"h-{guid}", path, int(guid)) for guid in guids)
    return Forest.of([Dataset(path, snapshots=snapshots)])


# --- where snapshots may be ----------------------------------------------------------------------


async def test_mirrors_are_those_of_all_generations_of_the_sources_dataset(
    world: World, source: Container
) -> None:
    own, old = world.path(source), await register(world, OLD, world.there)
    mine = await register(world, source.generation_id or "", world.there)
    ledger = CatalogueLedger(await attempt(world, source), world.here.id)
    forest = await lineage(world, source)
    assert await ledger.mirrors(forest) == {own: (mine.path,)}
    await overlay(world, own, world.here, [OLD])
    assert await ledger.mirrors(forest) == {own: (old.path, mine.path)}


async def test_a_mirror_that_has_them_as_a_stratum_is_found_too(
    world: World, source: Container
) -> None:
    promoted = await register(world, OLD, world.there)
    ledger = CatalogueLedger(await attempt(world, source), world.here.id)
    forest = await lineage(world, source)
    assert await ledger.mirrors(forest) == {world.path(source): ()}
    await overlay(world, promoted.path, world.there, [source.generation_id or ""])
    assert await ledger.mirrors(forest) == {world.path(source): (promoted.path,)}


async def test_a_mirror_that_is_found_twice_is_one(world: World, source: Container) -> None:
    mine = await register(world, source.generation_id or "", world.there)
    for path, place in ((world.path(source), world.here), (mine.path, world.there)):
        await overlay(world, path, place, [OLD])
    ledger = CatalogueLedger(await attempt(world, source), world.here.id)
    found = await ledger.mirrors(await lineage(world, source))
    assert found == {world.path(source): (mine.path,)}


async def test_a_dataset_that_is_known_may_lose_its_row(world: World, source: Container) -> None:
    """It was retired or collected since: the plan that stands on it is checked when it is used.
    One that was never known cannot be planned with."""
    ledger, forest = await ledger_of(world, source), await lineage(world, source)
    async with world.db.write() as tx:
        await datasets.delete(tx, source.generation_id or "")
    assert await ledger.mirrors(forest) == {world.path(source): ()}
    with pytest.raises(SourceChanged):
        await CatalogueLedger(await attempt(world, source), world.here.id).mirrors(forest)


# --- what comes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("landing", [Landing.NEW, Landing.EXTEND])
async def test_what_lands_may_be_of_any_generation_of_the_sources_dataset(
    world: World, source: Container, landing: Landing
) -> None:
    await overlay(world, world.path(source), world.here, [OLD])
    ledger = await ledger_of(world, source)
    extended = await register(world, OLDER, world.there, ready=landing is Landing.EXTEND)
    here = forest_of(extended.path, "5")
    for _ in range(2):
        await ledger.begins(step_of(world, source, landing, base="5"), extended.path, here)
    assert await layers_of(world, extended) == {OLDER, OLD, source.generation_id}


async def test_a_branch_takes_what_it_leaves_with_it(world: World, source: Container) -> None:
    trunk = await register(world, source.generation_id or "", world.there)
    await overlay(world, trunk.path, world.there, [OLD, OLDER])
    ledger = await ledger_of(world, source)
    step = step_of(world, source, Landing.BRANCH, base="5")
    path = await ledger.new_mirror(step, Forest())
    await ledger.begins(step, path, forest_of(trunk.path, "5"))
    async with world.db.read() as tx:
        branch = await datasets.by_path(tx, world.there.id, path)
    assert branch is not None
    assert await layers_of(world, branch) == {source.generation_id, OLD, OLDER}


async def test_a_clone_of_its_origin_takes_nothing_of_its_dataset(
    world: World, source: Container
) -> None:
    trunk = await register(world, OLD, world.there)
    ledger = await ledger_of(world, source)
    step = step_of(world, source, Landing.NEW, base="5")
    path = await ledger.new_mirror(step, Forest())
    await ledger.begins(step, path, forest_of(trunk.path, "5"))
    async with world.db.read() as tx:
        clone = await datasets.by_path(tx, world.there.id, path)
    assert clone is not None
    assert await layers_of(world, clone) == {source.generation_id}


async def test_a_mirror_that_was_begun_for_another_generation_is_not_gone_on_with(
    world: World, source: Container
) -> None:
    ledger = await ledger_of(world, source)
    step = step_of(world, source, Landing.NEW)
    path = await ledger.new_mirror(step, Forest())
    assert await ledger.new_mirror(step, Forest()) == path
    async with world.db.write() as tx:
        row = await datasets.by_path(tx, world.there.id, path)
        assert row is not None
        await datasets.change(tx, row.id, generation_id=OLD)
        await datasets.add_strata(tx, row, [source.generation_id or ""])
    assert await ledger.new_mirror(step, Forest()) != path


# --- what has come, and nobody could say so ------------------------------------------------------


class Deadly:
    """A storage at which a worker is killed as soon as this snapshot has come whole."""

    def __init__(self, storage: Storage, guid: object) -> None:
        self._storage = storage
        self._guid = guid

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    async def apply(self, step: Step, *args: Any) -> Snapshot:
        come = await self._storage.apply(step, *args)
        if come.guid == self._guid:
            raise Killed
        return come


async def received(world: World, job: Job) -> Job:
    """The copy of a snapshot, in an attempt that was killed when that had come, and its mirror was
    not noted to be whole."""
    claimed = await world.claim(job)
    deadly = Deadly(world.there.storage, job.params["guid"])
    with pytest.raises(Killed):
        await ACTIONS[job.type].run(world.context(claimed, storage=deadly))
    assert False in await ready(world)
    return claimed


async def ready(world: World) -> list[bool]:
    """Of each mirror there, whether it is known to be whole."""
    async with world.db.read() as tx:
        rows = await datasets.on_server(tx, world.there.id)
    return [row.ready for row in rows if row.role is Role.MIRROR]


async def test_the_next_attempt_finds_it_and_says_so(world: World, source: Container) -> None:
    entry = await world.snapshot(source)
    _, job = await world.begin_copy(source, snapshot=entry)
    await world.end(await received(world, job), Move.REQUEUE)
    result = await world.carry_out(job)
    assert result is not None and result["steps"] == []
    assert set(await ready(world)) == {True}


async def test_of_a_job_that_ended_it_is_kept_for_a_job_that_names_it(
    world: World, source: Container
) -> None:
    entry = await world.snapshot(source)
    _, cancelled = await world.begin_copy(source, snapshot=entry)
    await world.end(await received(world, cancelled), Move.CANCEL)
    _, waiting = await world.begin_copy(source, name="other", snapshot=entry)
    await world.settle(world.there)
    assert set(await ready(world)) == {True}
    result = await world.carry_out(waiting)
    assert result is not None and result["steps"] == []


# --- turns ---------------------------------------------------------------------------------------


async def test_two_datasets_with_a_generation_in_common_are_not_shipped_at_once(
    world: World, source: Container
) -> None:
    """Before and after a promotion the same snapshot is another dataset's."""
    other = await world.create("other")
    await overlay(world, world.path(other), world.here, [OLD, source.generation_id or ""])
    first, second = await ledger_of(world, source), await ledger_of(world, other)
    order: list[str] = []
    waits = asyncio.Event()

    async def wait() -> None:
        waits.set()
        async with second.turn(step_of(world, other, Landing.NEW)):
            order.append("second begins")
            async with world.db.read() as tx:
                assert len(await leases.on_server(tx, world.there.id)) == 3

    async with first.turn(step_of(world, source, Landing.NEW)):
        waiting = asyncio.create_task(wait())
        await waits.wait()
        order.append("first ends")
    await waiting
    assert order == ["first ends", "second begins"]
    async with world.db.read() as tx:
        assert await leases.on_server(tx, world.there.id) == frozenset()


async def test_a_dataset_that_grows_is_closed_to_collect_for_each_of_its_strata(
    world: World, copy: Container
) -> None:
    """Its unneeded snapshots go once the job has had its turn."""
    old = await world.switch(copy, "second")
    async with world.db.read() as tx:
        retired = await datasets.by_path(tx, world.there.id, old)
    assert retired is not None
    await overlay(world, old, world.there, [OLD])
    source = await world.get(copy.source_container_id or "")
    job = (await attempt(world, source)).job
    async with world.db.write() as tx:
        assert await leases.take(tx, world.there.id, OLD, job)
    await world.settle(world.there)
    assert old in await world.paths(world.there)
    await world.end(job, Move.FAIL)
    await world.settle(world.there)
    assert old not in await world.paths(world.there)
    assert old == generation_path(copy.id, retired.id)
