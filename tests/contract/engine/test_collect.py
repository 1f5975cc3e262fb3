"""Collect: what goes, when, and what is never touched."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from daemon.actions import generations, letting_go
from daemon.actions.collect import Rules
from daemon.model import Container, Role, Status, hold_tag, new_id, now
from daemon.states import Move
from daemon.store import bases, datasets, holdings, servers, snapshots
from tests.engine_world import Place, World
from transfer.model import Capacity
from transfer.retain import DeedKind

GRACE = Rules(grace=timedelta(minutes=10), base_ttl=timedelta(days=30))


async def test_what_is_unneeded_goes_after_the_grace_time(world: World, copy: Container) -> None:
    old = await world.switch(copy, "second")
    collector, began = world.collector(world.there, GRACE), now()
    assert await collector.run(began) == []
    assert await collector.run(began + timedelta(minutes=9)) == []
    assert old in (await world.forest(world.there)).datasets
    done = await collector.run(began + timedelta(minutes=10))
    assert [(deed.kind, deed.path) for deed in done if deed.path == old] == [
        (DeedKind.DESTROY, old)
    ]
    assert old not in (await world.forest(world.there)).datasets
    assert old not in await world.paths(world.there)


async def test_the_grace_time_begins_anew_when_a_thing_was_needed_again(
    world: World, source: Container, copy: Container
) -> None:
    await world.switch(copy, "second")
    await world.settle(world.there)
    mirror = next(d for d in await world.forest(world.there) if len(d.snapshots) == 1)
    storage, collector, began = world.there.storage, world.collector(world.there, GRACE), now()
    extra = await world.here.storage.snapshot(world.path(source), f"h-{new_id()}", "test")
    assert extra is not None
    async with world.db.write() as tx:
        kept = await bases.held_by(tx, world.there.id)
        await bases.drop_source(tx, source.id)
    await collector.run(began)
    await storage.hold([mirror.snapshots[0].guid], "needed")
    await collector.run(began + timedelta(minutes=5))
    await storage.release([mirror.snapshots[0].guid], "needed")
    await collector.run(began + timedelta(minutes=9))
    done = await collector.run(began + timedelta(minutes=11))
    assert mirror.path not in [deed.path for deed in done]
    assert kept


async def test_half_made_things_of_ended_jobs_go_at_once(world: World, source: Container) -> None:
    made, job = await world.begin_copy(source)
    ctx = world.context(await world.claim(job))

    async def fail(_name: str) -> None:
        raise RuntimeError("a fault of the test")

    ctx.step = fail
    guid = (await world.forest(world.here)).datasets[world.path(source)].origin
    taken = await world.there.storage.take_in(
        str(world.tree), "mirrors/m", f"h-{new_id()}", lambda _: None
    )
    generation = await generations.make(ctx, made, taken.guid)
    path = generation.dataset.path
    collector = world.collector(world.there, GRACE)
    await collector.run(now())
    assert path in (await world.forest(world.there)).datasets  # its job still runs
    await world.end(ctx.job, Move.FAIL)
    done = await collector.run(now())
    assert [(deed.kind, deed.path) for deed in done] == [(DeedKind.DESTROY, path)]
    assert path not in await world.paths(world.there)
    assert guid is not None


async def test_twice_in_a_row_changes_nothing_more(
    world: World, source: Container, copy: Container
) -> None:
    for text in ("second", "third"):
        await world.switch(copy, text)
    for place in (world.here, world.there):
        await world.settle(place)
        before = await world.forest(place), await world.paths(place)
        assert await world.collector(place).run(now()) == []
        assert (await world.forest(place), await world.paths(place)) == before
    assert (await world.live(copy) / "file").read_text() == "third"
    assert (await world.live(source) / "file").read_text() == "third"


async def test_after_ten_syncs_only_what_is_needed_is_left(
    world: World, source: Container, copy: Container
) -> None:
    for number in range(10):
        await world.switch(copy, f"state {number}")
        for place in (world.here, world.there):
            await world.settle(place)
    forest = await world.forest(world.there)
    assert len(forest.datasets) <= 3
    assert len(list(forest.snapshots())) <= 3
    here = await world.forest(world.here)
    assert len(here.datasets[world.path(source)].snapshots) == 1
    async with world.db.read() as tx:
        rows = await snapshots.on_server(tx, world.here.id)
    assert {row.guid for row in rows} <= {s.guid for s in here.snapshots()}


async def test_the_base_of_a_pair_stays_until_the_next_commit(
    world: World, source: Container, copy: Container
) -> None:
    """So the next sync is an increment."""
    await world.switch(copy, "second")
    for place in (world.here, world.there):
        await world.settle(place)
    (await world.live(source) / "file").write_text("third")
    assert (await world.sync(copy))["strategy"] == "content-diff"


async def test_bases_of_a_silent_peer_are_let_go(
    world: World, source: Container, copy: Container
) -> None:
    held = await held_by(world, world.here)
    assert held
    collector = world.collector(world.here)
    await collector.run(now() + timedelta(days=29))
    assert await held_by(world, world.here) == held
    await collector.run(now() + timedelta(days=31))
    assert await held_by(world, world.here) == []
    assert (await world.live(copy) / "file").read_text() == "first"


async def test_of_a_silent_puller_a_bookmark_is_enough(
    world: World, source: Container, copy: Container
) -> None:
    """Not of a silent source: only who sends can do with a bookmark."""
    silent_since = now() + timedelta(days=1)
    held = await held_by(world, world.here)
    marked = await letting_go.bases(world.db, world.here.id, silent_since, bookmarks=True)
    assert marked == {base.guid for base in held}
    assert await held_by(world, world.here) == held
    alive = await letting_go.bases(world.db, world.here.id, now() - timedelta(1), bookmarks=True)
    assert alive == set()
    assert await letting_go.bases(world.db, world.there.id, silent_since, bookmarks=True) == set()
    assert await held_by(world, world.there) == await held_by(world, world.here) == []


async def test_bases_are_let_go_with_the_last_copy(
    world: World, source: Container, copy: Container
) -> None:
    other = await world.copy(source, name="other")
    await world.remove(copy)
    await world.settle(world.here)
    assert await held_by(world, world.here)
    await world.remove(other)
    for place in (world.here, world.there):
        await world.settle(place)
    assert await held_by(world, world.here) == []
    assert await world.paths(world.there) == []
    assert await world.paths(world.here) == [world.path(source)]


async def held_by(world: World, place: Place) -> list[Any]:
    async with world.db.read() as tx:
        return list(await bases.held_by(tx, place.id))


async def test_deleting_a_source_leaves_its_copies_whole(
    world: World, source: Container, copy: Container
) -> None:
    twin = await world.copy(source, world.here, "twin")
    await world.remove(source)
    for place in (world.here, world.there):
        await world.settle(place)
    for one in (copy, twin):
        assert (await world.live(one) / "file").read_text() == "first"
    async with world.db.read() as tx:
        rows = await datasets.on_server(tx, world.here.id)
    assert [row.role for row in rows if row.container_id is None] == [Role.MIRROR] * (len(rows) - 1)
    assert {row.path for row in rows} == (await world.forest(world.here)).datasets.keys()


async def test_an_orphan_whose_row_was_not_written_follows(world: World, source: Container) -> None:
    """Killed between the rename and the row."""
    await world.copy(source, world.here, "twin")
    await world.remove(source)
    path = world.path(source)
    await world.here.storage.retire(path, f"mirrors/{source.generation_id}")
    assert path in await world.paths(world.here)
    await world.collector(world.here, GRACE).run(now())
    paths = await world.paths(world.here)
    assert path not in paths
    assert f"mirrors/{source.generation_id}" in paths
    assert set(paths) == (await world.forest(world.here)).datasets.keys()


async def test_a_held_snapshot_stays(world: World, copy: Container) -> None:
    mirror = next(d for d in await world.forest(world.there) if d.is_mirror and d.snapshots)
    await world.there.storage.hold([mirror.snapshots[0].guid], "somebody")
    await world.remove(copy)
    await world.settle(world.there)
    assert mirror.path in (await world.forest(world.there)).datasets


async def test_foreign_snapshots_and_datasets_are_never_destroyed(
    world: World, source: Container, copy: Container
) -> None:
    storage = world.there.storage
    path = world.path(copy)
    for name in ("by-hand", f"h-{'A' * 24}", f"h-{new_id()}x"):
        (await world.live(copy) / "file").write_text(name)
        snapshot = await storage.snapshot(path, name, "test")
        await storage.release([snapshot.guid], "test")
    foreign = await storage.take_in(
        str(world.tree), f"mirrors/{new_id()}", f"h-{new_id()}", lambda _: None
    )
    await storage.clone(foreign.guid, f"containers/{new_id()}/{new_id()}")
    before = await world.forest(world.there)
    await world.settle(world.there)
    assert await world.forest(world.there) == before
    old = await world.switch(copy, "second")
    await world.settle(world.there)
    names = [s.name for s in (await world.forest(world.there)).datasets[old].snapshots]
    assert names == [s.name for s in before.datasets[old].snapshots]
    assert len(names) == 3


async def test_a_retired_head_is_trimmed_where_its_snapshots_are_needed(
    world: World, source: Container
) -> None:
    """A head that nobody uses pins its blocks until it is rolled back."""
    twin = await world.copy(source, world.here, "twin")
    reader = await world.copy(twin)
    old = world.path(twin)
    (await world.live(source) / "file").write_text("second")
    await world.sync(twin)
    done = await world.settle(world.here)
    assert (DeedKind.TRIM, old) in [(deed.kind, deed.path) for deed in done]
    left = (await world.forest(world.here)).datasets[old]
    assert not left.head_differs
    assert (await world.live(reader) / "file").read_text() == "first"


async def test_holds_of_ended_jobs_are_released(world: World, source: Container) -> None:
    _, job = await world.begin_copy(source)
    running = await world.claim(job)
    snapshot = await world.here.storage.snapshot(
        world.path(source), f"h-{new_id()}", hold_tag(job.id)
    )
    async with world.db.write() as tx:
        await holdings.add(tx, job.id, world.here.id)
    await world.settle(world.here)
    assert await holds_of(world, snapshot.guid) == 1
    await world.end(running, Move.FAIL)
    await world.collector(world.here, GRACE).run(now())
    assert await holds_of(world, snapshot.guid) == 0


async def holds_of(world: World, guid: str) -> int:
    found = (await world.forest(world.here)).find(guid)
    assert found is not None
    return found.holds


async def test_collect_notes_what_each_container_takes(world: World, copy: Container) -> None:
    (await world.live(copy) / "more").write_bytes(bytes(1 << 20))
    snapshot = await world.there.storage.snapshot(world.path(copy), f"h-{new_id()}", "test")
    await world.collector(world.there, GRACE).run(now())
    after = await world.get(copy.id)
    assert after.referenced_bytes == snapshot.referenced_bytes > copy.referenced_bytes


async def test_the_mount_root_keeps_nothing_of_a_deleted_container(
    world: World, copy: Container
) -> None:
    await world.remove(copy)
    await world.settle(world.there)
    assert list(Path(world.there.config.storage.mount_root).iterdir()) == []


async def test_another_servers_storage_is_not_looked_at(
    world: World, source: Container, copy: Container
) -> None:
    before = await world.forest(world.there)
    await world.settle(world.here)
    async with world.db.write() as tx:
        await servers.beat(tx, world.there.id, Capacity(1, 1, 1), now())
    assert await world.forest(world.there) == before
    assert (await world.get(copy.id)).status is Status.RUNNING
