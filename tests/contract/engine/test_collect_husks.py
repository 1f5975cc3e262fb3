"""Collect on zfs, where a clone pins what it was made from: husks, and the strata they leave."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from daemon.actions.collect import Rules
from daemon.model import Container, UserSnapshot, now
from daemon.store import datasets
from tests.engine_world import Place, World
from transfer.model import Dataset
from transfer.retain import DeedKind

pytestmark = pytest.mark.zfs

GRACE = Rules(grace=timedelta(minutes=10), base_ttl=timedelta(days=30))


@pytest.fixture
def world(zfs_world: World) -> World:
    return zfs_world


async def write(world: World, container: Container, text: str) -> None:
    (await world.live(container) / "file").write_text(text)


async def read(world: World, container: Container) -> str:
    return (await world.live(container) / "file").read_text()


async def taken(world: World, container: Container, *texts: str) -> list[UserSnapshot]:
    """A snapshot after each of these was written."""
    found = []
    for text in texts:
        await write(world, container, text)
        found.append(await world.snapshot(container))
    return found


async def datasets_of(world: World, place: Place) -> dict[str, Dataset]:
    return dict((await world.forest(place)).datasets)


async def strata_of(world: World, place: Place, path: str) -> set[str]:
    async with world.db.read() as tx:
        row = await datasets.by_path(tx, place.id, path)
        assert row is not None
        return await datasets.generations(tx, row) - {row.generation_id}


async def live_path(world: World, container: Container) -> str:
    return world.path(await world.get(container.id))


async def husk_of(world: World, source: Container) -> tuple[UserSnapshot, UserSnapshot]:
    """A container that was restored to the second of three snapshots; the third was deleted."""
    first, second, third = await taken(world, source, "one", "two", "three")
    await write(world, source, "after")
    await world.restore(source, second)
    await world.delete_snapshot(third)
    return first, second


async def test_what_a_live_generation_was_restored_from_leaves_no_husk(
    world: World, source: Container
) -> None:
    first, second = await husk_of(world, source)
    husk = world.path(source)
    await world.delete_snapshot(second)
    done = await world.settle(world.here)
    live = await live_path(world, source)
    promoted = [deed.path for deed in done if deed.kind is DeedKind.PROMOTE]
    assert promoted == [husk, live], "first over what the container was created from"
    (left,) = (await datasets_of(world, world.here)).values()
    assert (left.path, left.origin) == (live, None)
    assert [snapshot.guid for snapshot in left.snapshots] == [first.guid]
    assert await world.paths(world.here) == [live]
    assert await strata_of(world, world.here, live) >= {source.generation_id}
    assert await read(world, source) == "two"
    await world.restore(source, first)
    assert await read(world, source) == "one"


async def test_a_snapshot_that_is_listed_makes_no_husk(world: World, source: Container) -> None:
    _, second = await husk_of(world, source)
    await world.settle(world.here)
    found = await datasets_of(world, world.here)
    assert found.keys() == {world.path(source), await live_path(world, source)}
    head = found[world.path(source)].head
    assert head is not None
    assert head.guid == second.guid


async def test_a_husk_waits_for_the_grace_time(world: World, source: Container) -> None:
    _, second = await husk_of(world, source)
    await world.settle(world.here)
    await world.delete_snapshot(second)
    collector, began = world.collector(world.here, GRACE), now()
    for minutes in (0, 9):
        assert await collector.run(began + timedelta(minutes=minutes)) == []
    (promoted,) = await collector.run(began + timedelta(minutes=10))
    assert promoted.kind is DeedKind.PROMOTE
    assert world.path(source) in await datasets_of(world, world.here)
    await collector.run(began + timedelta(minutes=11))
    await collector.run(began + timedelta(minutes=21))
    assert await world.paths(world.here) == [await live_path(world, source)]


async def test_a_young_clone_keeps_its_origin_untried(world: World, source: Container) -> None:
    """The snapshot has been unneeded for long, its clone has not: it is not the snapshot's turn."""
    first, second = await taken(world, source, "one", "two")
    await world.restore(source, first)
    await world.settle(world.here)
    middle = await live_path(world, source)
    await world.restore(source, second)
    await world.delete_snapshot(first)
    collector, began = world.collector(world.here, GRACE), now()
    await collector.run(began)
    forest = await world.forest(world.here)
    assert forest.datasets[middle].origin == first.guid
    await world.delete_snapshot(second)
    for minutes in (9, 10):
        await collector.run(began + timedelta(minutes=minutes))
    assert middle not in await datasets_of(world, world.here)
    assert (await world.forest(world.here)).find(first.guid) is None
    await world.settle(world.here)
    assert await world.paths(world.here) == [await live_path(world, source)]
    assert await read(world, source) == "two"


async def test_a_held_husk_is_left_alone(world: World, source: Container) -> None:
    first, second = await husk_of(world, source)
    await world.delete_snapshot(second)
    await world.here.storage.hold([first.guid], "somebody")
    await world.settle(world.here)
    assert world.path(source) in await datasets_of(world, world.here)
    await world.here.storage.release([first.guid], "somebody")
    await world.settle(world.here)
    assert world.path(source) not in await datasets_of(world, world.here)


async def test_after_a_promotion_on_both_sides_a_sync_is_an_increment(
    world: World, source: Container
) -> None:
    """What is here is found by its strata, whatever dataset it lies in now; a guid that came
    twice would be refused by nobody and found by chance."""
    first, second = await husk_of(world, source)
    copy = await world.copy(source)
    for snapshot in await world.listed(copy):
        if snapshot.id == second.id:
            await world.delete_snapshot(snapshot)
    await world.delete_snapshot(second)
    for place in (world.here, world.there):
        await world.settle(place)
    await write(world, source, "later")
    result: Any = await world.sync(copy)
    assert result["strategy"] == "incremental"
    assert len(result["steps"]) == 1
    fresh = await world.snapshot(source)
    await write(world, source, "last")
    assert (await world.sync(copy))["strategy"] == "incremental"
    assert await read(world, copy) == "last"
    assert [one.guid for one in await world.listed(copy)] == [fresh.guid, first.guid]
    for place in (world.here, world.there):
        await world.settle(place)
        found = [one.guid for one in (await world.forest(place)).snapshots()]
        assert len(found) == len(set(found))
    await world.restore(copy, first)
    assert await read(world, copy) == "one"


async def test_a_history_with_a_restore_in_it_goes_on_to_a_third_container(
    world: World, source: Container
) -> None:
    first, _, third = await taken(world, source, "one", "two", "three")
    await world.restore(source, first)
    (fourth,) = await taken(world, source, "four")
    copy = await world.copy(source)
    inherited = [entry.guid for entry in await world.listed(copy)]
    assert inherited == [entry.guid for entry in await world.listed(source)]
    assert (len(inherited), inherited[0]) == (4, fourth.guid)
    back = await world.copy(copy, world.here, "back")
    await world.restore(back, third)
    assert await read(world, back) == "three"
    for place in (world.here, world.there):
        await world.settle(place)
        assert await world.findings(place) == []


async def test_after_all_is_deleted_nothing_is_left(world: World, source: Container) -> None:
    first, second = await husk_of(world, source)
    copy = await world.copy(source)
    await world.restore(copy, first)
    await world.delete_snapshot(second)
    for place in (world.here, world.there):
        await world.settle(place)
    await world.remove(source)
    for place in (world.here, world.there):
        await world.settle(place)
    assert await read(world, copy) == "one"
    await world.remove(copy)
    for place in (world.here, world.there):
        await world.settle(place)
        assert await datasets_of(world, place) == {}
        assert await world.paths(place) == []
