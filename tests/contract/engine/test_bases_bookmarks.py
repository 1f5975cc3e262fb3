"""Bases that the source no longer has: OpenZFS has kept their bookmarks, zfs-fuse has none."""

from __future__ import annotations

from datetime import timedelta

import pytest

from daemon.actions.collect import Rules
from daemon.model import Container, new_id, now
from daemon.store import bases
from tests.engine_world import World
from tests.kernel_zfs import KERNEL

pytestmark = pytest.mark.zfs

RULES = Rules(grace=timedelta(0), base_ttl=timedelta(days=30))


async def both(zfs_world: World) -> tuple[Container, Container]:
    """A container and its copy on the other server, with nothing left to collect."""
    source = await zfs_world.create()
    copy = await zfs_world.copy(source)
    for place in zfs_world.places:
        await zfs_world.settle(place)
    return source, copy


async def anchors(zfs_world: World, source: Container) -> list[str]:
    path = zfs_world.path(source)
    return [one.guid for one in (await zfs_world.forest(zfs_world.here)).datasets[path].snapshots]


async def synced_without(zfs_world: World, source: Container, copy: Container) -> str | None:
    """Syncs although the base is gone from the source; what the stream went from. Nothing is left
    over."""
    (await zfs_world.live(source) / "file").write_text("second")
    result = await zfs_world.sync(copy)
    assert (await zfs_world.live(copy) / "file").read_text() == "second"
    for place in zfs_world.places:
        await zfs_world.settle(place)
        assert await zfs_world.findings(place) == []
    dataset = (await zfs_world.forest(zfs_world.here)).datasets[zfs_world.path(source)]
    assert dataset.remains == ()
    base = result["steps"][0]["base"]
    return None if base is None else str(base)


async def test_the_base_of_a_silent_peer(zfs_world: World) -> None:
    """Its snapshot pins nothing any more; the peer comes back, and gets an increment."""
    source, copy = await both(zfs_world)
    (base,) = await anchors(zfs_world, source)
    for _ in range(2):
        await zfs_world.collector(zfs_world.here, RULES).run(now() + timedelta(days=31))
    assert await anchors(zfs_world, source) == []
    async with zfs_world.db.read() as tx:
        kept = await bases.held_by(tx, zfs_world.there.id)
    assert bool(kept) == KERNEL
    assert await synced_without(zfs_world, source, copy) == (base if KERNEL else None)


async def test_a_base_that_somebody_destroyed_by_hand(zfs_world: World) -> None:
    """Without a bookmark there is still what the source was made from."""
    source, copy = await both(zfs_world)
    (base,) = await anchors(zfs_world, source)
    path = zfs_world.path(source)
    origin = (await zfs_world.forest(zfs_world.here)).datasets[path].origin
    await zfs_world.here.storage.destroy_snapshot(path, base)
    assert await synced_without(zfs_world, source, copy) == (base if KERNEL else origin)


async def test_a_bookmark_goes_only_where_a_row_accounts_for_its_dataset(zfs_world: World) -> None:
    """What no row accounts for may be somebody else's, whatever its name looks like."""
    storage = zfs_world.here.storage
    source = await zfs_world.create()
    strange = f"mirrors/{new_id()}"
    await storage.take_in(str(zfs_world.tree), strange, f"h-{new_id()}", lambda _: None)
    for path in (zfs_world.path(source), strange):
        taken = await storage.snapshot(path, f"h-{new_id()}", "test")
        await storage.release([taken.guid], "test")
        await storage.destroy_snapshot(path, taken.guid)
    await zfs_world.settle(zfs_world.here)
    forest = await zfs_world.forest(zfs_world.here)
    assert forest.datasets[zfs_world.path(source)].remains == ()
    assert bool(forest.datasets[strange].remains) == KERNEL
