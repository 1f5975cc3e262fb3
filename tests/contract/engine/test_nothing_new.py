"""A sync where nothing is new: few commands, nothing shipped, nothing kept; and what is new, in
whatever place, is not missed for it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from daemon.model import Container
from tests.engine_world import World
from transfer.model import Guid

pytestmark = pytest.mark.zfs

COMMANDS_MAX = 6


@pytest.fixture
async def pair(zfs_world: World) -> tuple[Container, Container]:
    """A container, and a copy of it that was synced once."""
    source = await zfs_world.create()
    copy = await zfs_world.copy(source)
    (await zfs_world.live(source) / "file").write_text("second")
    await zfs_world.sync(copy)
    for place in zfs_world.places:
        await zfs_world.settle(place)
    return source, copy


async def snapshots(world: World) -> list[set[Guid]]:
    """All there are, on each server."""
    forests = [await world.forest(place) for place in world.places]
    return [{one.guid for one in forest.snapshots()} for forest in forests]


async def text(world: World, container: Container) -> str:
    return (await world.live(container) / "file").read_text()


async def test_it_takes_six_commands_and_leaves_nothing(
    zfs_world: World, pair: tuple[Container, Container], asked: list[Sequence[str]]
) -> None:
    _, copy = pair
    before = await snapshots(zfs_world)
    was = await zfs_world.get(copy.id)
    asked.clear()
    result = await zfs_world.sync(copy)
    assert len(asked) <= COMMANDS_MAX, asked
    assert (result["strategy"], result["bytes_logical"], result["steps"]) == ("unchanged", 0, [])
    now = await zfs_world.get(copy.id)
    assert (now.generation_id, now.taken_guid) == (was.generation_id, was.taken_guid)
    assert was.last_synced_at and now.last_synced_at and now.last_synced_at > was.last_synced_at
    assert await snapshots(zfs_world) == before
    for place in zfs_world.places:
        assert await zfs_world.findings(place) == []


async def test_a_source_that_was_never_written_to_takes_no_more(
    zfs_world: World, asked: list[Sequence[str]]
) -> None:
    """Each copy's anchor is then its settled state, for which no anchor was ever taken."""
    source = await zfs_world.create()
    copies = [await zfs_world.copy(source, name=name) for name in ("one", "two", "three")]
    for copy in copies:
        asked.clear()
        assert (await zfs_world.sync(copy))["strategy"] == "unchanged"
        assert len(asked) <= COMMANDS_MAX, asked


async def test_what_the_source_has_since_comes(
    zfs_world: World, pair: tuple[Container, Container]
) -> None:
    source, copy = pair
    await zfs_world.sync(copy)
    (await zfs_world.live(source) / "file").write_text("third")
    assert (await zfs_world.sync(copy))["strategy"] == "incremental"
    assert await text(zfs_world, copy) == "third"


async def test_what_was_written_to_the_copy_goes(
    zfs_world: World, pair: tuple[Container, Container]
) -> None:
    _, copy = pair
    (await zfs_world.live(copy) / "file").write_text("of the copy")
    assert (await zfs_world.sync(copy))["strategy"] == "unchanged"
    assert await text(zfs_world, copy) == "second"


async def test_a_snapshot_of_the_source_comes_without_a_change(
    zfs_world: World, pair: tuple[Container, Container]
) -> None:
    source, copy = pair
    taken = await zfs_world.snapshot(source)
    assert (await zfs_world.sync(copy))["strategy"] == "unchanged"
    assert [one.guid for one in await zfs_world.listed(copy)] == [taken.guid]


async def test_a_source_that_was_restored_is_not_taken_for_the_same(
    zfs_world: World, pair: tuple[Container, Container]
) -> None:
    source, copy = pair
    taken = await zfs_world.snapshot(source)
    (await zfs_world.live(source) / "file").write_text("third")
    await zfs_world.sync(copy)
    await zfs_world.restore(source, taken)
    await zfs_world.sync(copy)
    assert await text(zfs_world, copy) == "second"
    await zfs_world.sync(copy)
    assert await text(zfs_world, copy) == "second"


async def test_full_that_is_forced_makes_the_copy_anew(
    zfs_world: World, pair: tuple[Container, Container]
) -> None:
    _, copy = pair
    was = await zfs_world.get(copy.id)
    assert (await zfs_world.sync(copy, strategy="full"))["strategy"] != "unchanged"
    assert (await zfs_world.get(copy.id)).generation_id != was.generation_id
