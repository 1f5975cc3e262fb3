"""Collect and the lists of snapshots: what any container lists, or a job reads, stays."""

from __future__ import annotations

from dataclasses import replace

from daemon.model import Container, UserSnapshot, new_id, now, snapshot_name, snapshot_params
from daemon.states import Move
from daemon.store import snapshots, user_snapshots
from tests.engine_world import Link, Place, World
from transfer.storage.base import Unless


async def write(world: World, container: Container, text: str) -> None:
    (await world.live(container) / "file").write_text(text)


async def taken(world: World, container: Container, *texts: str) -> list[UserSnapshot]:
    """A snapshot after each of these was written."""
    found = []
    for text in texts:
        await write(world, container, text)
        found.append(await world.snapshot(container))
    return found


async def guids(world: World, place: Place) -> set[str]:
    await world.settle(place)
    return {snapshot.guid for snapshot in (await world.forest(place)).snapshots()}


async def test_a_snapshot_stays_as_long_as_it_is_listed(world: World, source: Container) -> None:
    first, second = await taken(world, source, "one", "two")
    assert await guids(world, world.here) == {first.guid, second.guid}
    await world.delete_snapshot(first)
    assert await guids(world, world.here) == {second.guid}


async def test_a_snapshot_that_two_entries_name_stays_for_the_second(
    world: World, source: Container
) -> None:
    """Nothing was written in between: both are the same state."""
    first = await world.snapshot(source)
    second = await world.snapshot(source)
    assert (first.id, first.guid) != (second.id, second.guid) == (second.id, first.guid)
    await world.delete_snapshot(first)
    assert await guids(world, world.here) == {second.guid}
    await world.delete_snapshot(second)
    assert await guids(world, world.here) == set()


async def test_a_copy_keeps_what_its_source_deletes(world: World, source: Container) -> None:
    (only,) = await taken(world, source, "one")
    copy = await world.copy(source)
    await world.delete_snapshot(only)
    await world.remove(source)
    assert only.guid not in await guids(world, world.here)
    assert only.guid in await guids(world, world.there)
    await world.restore(copy, only)
    assert (await world.live(copy) / "file").read_text() == "one"


async def test_what_the_source_still_lists_stays_on_the_server_of_its_copy(
    world: World, source: Container
) -> None:
    """Another copy there, or one that is made later, would have to fetch it again."""
    (only,) = await taken(world, source, "one")
    copy = await world.copy(source)
    (inherited,) = await world.listed(copy)
    await world.delete_snapshot(inherited)
    assert only.guid in await guids(world, world.there)
    await world.delete_snapshot(only)
    await write(world, source, "two")
    await world.sync(copy)
    assert only.guid not in await guids(world, world.there)


async def test_what_a_job_of_any_server_reads_stays_until_the_job_ends(
    world: World, source: Container
) -> None:
    """Also if it is off the list since, and not yet held."""
    first, second = await taken(world, source, "one", "two")
    _, job = await world.begin_copy(source, snapshot=first)
    assert job.server_id == world.there.id
    await world.delete_snapshot(first)
    assert await guids(world, world.here) == {first.guid, second.guid}
    await world.end(await world.claim(job), Move.FAIL)
    assert await guids(world, world.here) == {second.guid}


async def test_the_jobs_of_a_container_that_restores_keep_what_they_read(
    world: World, source: Container
) -> None:
    first, _ = await taken(world, source, "one", "two")
    job = await world.begin_restore(source, first)
    assert job.params["guid"] == snapshot_params(first)["guid"]
    await world.delete_snapshot(first)
    assert first.guid in await guids(world, world.here)
    await world.carry_out(job)
    assert (await world.live(source) / "file").read_text() == "one"


async def test_on_dir_an_origin_goes_though_it_was_cloned(world: World, source: Container) -> None:
    """There, clones stand alone."""
    first, second = await taken(world, source, "one", "two")
    await world.restore(source, first)
    for entry in (first, second):
        await world.delete_snapshot(entry)
    assert await guids(world, world.here) == set()
    after = await world.get(source.id)
    assert await world.paths(world.here) == [world.path(after)]
    assert (await world.live(source) / "file").read_text() == "one"
    fresh = await world.snapshot(source)
    copy = await world.copy(source)
    assert [entry.guid for entry in await world.listed(copy)] == [fresh.guid]
    assert (await world.live(copy) / "file").read_text() == "one"


async def test_the_internal_row_stays_as_long_as_its_snapshot(
    world: World, source: Container
) -> None:
    """By it the snapshot's generation is known, whoever lists it by now."""
    (only,) = await taken(world, source, "one")
    (await world.live(source) / "file").write_text("later")
    copy = await world.copy(source, world.here)
    await world.delete_snapshot(only)
    assert only.guid in await guids(world, world.here)
    async with world.db.read() as tx:
        assert await snapshots.get(tx, only.id) is not None
    (inherited,) = await world.listed(copy)
    await world.delete_snapshot(inherited)
    assert only.guid not in await guids(world, world.here)
    async with world.db.read() as tx:
        assert await snapshots.get(tx, only.id) is None


async def test_the_state_that_a_copy_took_here_stays_until_one_of_the_two_is_gone(
    world: World, source: Container
) -> None:
    """Without it an unchanged source could not be told from a changed one."""
    copy = await world.copy(source, world.here)
    assert copy.taken_guid in await guids(world, world.here)
    assert (await world.sync(copy))["strategy"] == "unchanged"
    await world.remove(source)
    assert (copy.taken_guid in await guids(world, world.here)) is False


async def test_a_snapshot_that_was_taken_and_never_listed_goes(
    world: World, source: Container
) -> None:
    """Its job was killed in between, and failed."""
    job = await world.begin_snapshot(source)
    claimed = await world.claim(job)
    path, name = world.path(source), snapshot_name(str(job.params["snapshot"]))
    found = await world.here.storage.snapshot(path, name, world.context(claimed).tag)
    assert found.guid in await guids(world, world.here)
    await world.end(claimed, Move.FAIL)
    await world.here.storage.release([found.guid], world.context(claimed).tag)
    assert found.guid not in await guids(world, world.here)


async def test_collect_notes_what_each_listed_snapshot_takes(
    world: World, source: Container
) -> None:
    (only,) = await taken(world, source, "one")
    strange = replace(only, id=new_id(), name="gone", guid="1")
    async with world.db.write() as tx:
        await user_snapshots.change(tx, source.id, only.id, referenced_bytes=1, unique_bytes=2)
        await user_snapshots.insert(tx, strange)
    (await world.live(source) / "file").unlink()
    await world.collector(world.here).run(only.created_at)
    forest = await world.forest(world.here)
    found = forest.find(only.guid)
    assert found is not None
    after = await world.entry(source, only.id)
    assert after.referenced_bytes == found.referenced_bytes > 1
    assert after.unique_bytes == found.unique_bytes
    lost = await world.entry(source, strange.id)
    assert (lost.referenced_bytes, lost.unique_bytes) == (
        strange.referenced_bytes,
        strange.unique_bytes,
    )


class Meanwhile(Link):
    """A storage beside which a snapshot is listed while it is about to be destroyed."""

    world: World
    entry: UserSnapshot

    async def destroy_snapshot(self, path: str, guid: str, unless: Unless) -> None:
        if guid == self.entry.guid:
            async with self.world.db.write() as tx:
                await user_snapshots.insert(tx, self.entry)
        await self._storage.destroy_snapshot(path, guid, unless)


async def test_what_is_listed_after_the_look_stays(world: World, source: Container) -> None:
    """The collector saw it when it was just taken, not held yet and not listed; when it comes to
    the deed, the job has held it, listed it and let go of it."""
    (only,) = await taken(world, source, "one")
    await world.delete_snapshot(only)
    storage = Meanwhile(world.here.storage)
    storage.world, storage.entry = world, only
    done = await world.collector(world.here, storage=storage).run(now())
    assert only.guid not in {deed.guid for deed in done}
    assert only.guid in await guids(world, world.here)
    assert await world.listed(source) == [only]
