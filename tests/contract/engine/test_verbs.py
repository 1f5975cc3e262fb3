"""Sync, power and delete, on real storages."""

from __future__ import annotations

import pytest

from daemon.actions import ACTIONS
from daemon.errors import JobError
from daemon.model import Container, JobType, Status
from daemon.states import Move
from daemon.store import bases, datasets
from tests.engine_world import World

# --- sync ----------------------------------------------------------------------------------------


async def test_an_unchanged_source_does_not_even_stop_the_copy(
    world: World, source: Container, copy: Container
) -> None:
    result = await world.sync(copy)
    after = await world.get(copy.id)
    assert (result["strategy"], result["bytes_logical"]) == ("unchanged", 0)
    assert (after.generation_id, after.status) == (copy.generation_id, Status.RUNNING)
    assert after.last_synced_at is not None
    assert copy.last_synced_at is not None
    assert after.last_synced_at >= copy.last_synced_at
    assert await world.paths(world.there) == sorted(
        dataset.path for dataset in await world.forest(world.there)
    )


async def test_a_copy_that_was_written_is_overwritten_by_an_unchanged_source(
    world: World, source: Container, copy: Container
) -> None:
    (await world.live(copy) / "file").write_text("written on the copy")
    (await world.live(copy) / "more").touch()
    result = await world.sync(copy)
    after = await world.get(copy.id)
    assert result["strategy"] == "unchanged"
    assert after.generation_id != copy.generation_id
    assert (await world.live(copy) / "file").read_text() == "first"
    assert not (await world.live(copy) / "more").exists()


async def test_a_change_and_its_undoing_are_unchanged_or_synced(
    world: World, source: Container, copy: Container
) -> None:
    """Either is right; the copy is equal to the source."""
    live = await world.live(source)
    (live / "more").touch()
    (live / "more").unlink()
    await world.sync(copy)
    assert sorted(p.name for p in (await world.live(copy)).iterdir()) == sorted(
        p.name for p in live.iterdir()
    )


@pytest.mark.parametrize("strategy", ["full", "content-diff"])
async def test_a_forced_strategy_is_never_unchanged(
    world: World, source: Container, copy: Container, strategy: str
) -> None:
    result = await world.sync(copy, strategy=strategy)
    assert result["strategy"] != "unchanged"
    assert (await world.get(copy.id)).generation_id != copy.generation_id


@pytest.mark.parametrize("was", [Status.RUNNING, Status.STOPPED])
@pytest.mark.parametrize("changed", [False, True])
async def test_a_sync_leaves_the_copy_running_only_if_it_ran(
    world: World, source: Container, copy: Container, was: Status, changed: bool
) -> None:
    await world.change(copy, status=was)
    if changed:
        (await world.live(source) / "file").write_text("second")
    await world.sync(copy)
    assert (await world.get(copy.id)).status is was


@pytest.mark.parametrize("was", [Status.RUNNING, Status.STOPPED])
async def test_a_sync_that_fails_leaves_the_copy_as_it_was(
    world: World, source: Container, copy: Container, was: Status
) -> None:
    await world.change(copy, status=was)
    job = await world.claim(await world.begin_sync(copy))
    await world.end(job, Move.FAIL)
    after = await world.get(copy.id)
    assert (after.status, after.generation_id) == (was, copy.generation_id)


async def test_an_unchanged_sync_leaves_a_container_that_is_to_be_deleted(
    world: World, source: Container, copy: Container
) -> None:
    job = await world.claim(await world.begin_sync(copy))
    await world.change(copy, status=Status.DELETING)
    await ACTIONS[JobType.SYNC].run(world.context(job))
    assert (await world.get(copy.id)).status is Status.DELETING


async def test_ssh_host_keys_of_a_copy_survive_its_syncs(world: World) -> None:
    (world.tree / "etc" / "ssh").mkdir()
    (world.tree / "etc" / "ssh" / "ssh_host_ed25519_key").write_text("the source's")
    source = await world.create()
    copy = await world.copy(source)
    where = "etc/ssh/ssh_host_ed25519_key"
    own = (await world.live(copy) / where).read_text()
    assert own != (await world.live(source) / where).read_text()
    (await world.live(source) / "file").write_text("second")
    await world.sync(copy)
    assert (await world.live(copy) / where).read_text() == own


# --- power ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type", "was", "ends"),
    [
        (JobType.START, Status.STOPPED, Status.RUNNING),
        (JobType.STOP, Status.RUNNING, Status.STOPPED),
        (JobType.RESTART, Status.RUNNING, Status.RUNNING),
    ],
)
async def test_power_done_twice_ends_the_same(
    world: World, source: Container, type: JobType, was: Status, ends: Status
) -> None:
    await world.change(source, status=was, status_reason="of before")
    for _ in range(2):
        await world.carry_out(await world.queue(type, source))
        after = await world.get(source.id)
        assert (after.status, after.status_reason) == (ends, None)


async def test_a_start_mounts_what_is_live(world: World, source: Container) -> None:
    await world.here.storage.unmount(world.path(source))
    await world.change(source, status=Status.STOPPED)
    await world.carry_out(await world.queue(JobType.START, source))
    assert world.here.storage.is_mounted(world.path(source))


async def test_a_start_that_fails_ends_in_stopped_with_its_reason(
    world: World, source: Container
) -> None:
    empty = await world.add("empty", status=Status.STOPPED)
    job = await world.running(JobType.START, empty)
    with pytest.raises(JobError) as failed:
        await ACTIONS[JobType.START].run(world.context(job))
    assert failed.value.code == "START_FAILED"
    await world.end(job, Move.FAIL)
    after = await world.get(empty.id)
    assert (after.status, after.status_reason) == (Status.STOPPED, "FAULT: it failed")


async def test_a_stop_that_fails_leaves_it_running(world: World, source: Container) -> None:
    job = await world.running(JobType.STOP, source)
    await world.end(job, Move.FAIL)
    after = await world.get(source.id)
    assert (after.status, after.status_reason) == (Status.RUNNING, None)


@pytest.mark.parametrize("type", [JobType.START, JobType.STOP, JobType.RESTART])
async def test_power_does_not_hide_that_a_container_is_to_be_deleted(
    world: World, source: Container, type: JobType
) -> None:
    job = await world.running(type, source)
    await world.change(source, status=Status.DELETING)
    await ACTIONS[type].run(world.context(job))
    assert (await world.get(source.id)).status is Status.DELETING


# --- delete --------------------------------------------------------------------------------------


async def test_a_delete_takes_the_row_and_the_bases_and_retires_the_datasets(
    world: World, source: Container, copy: Container
) -> None:
    path = world.path(source)
    async with world.db.read() as tx:
        assert await bases.held_by(tx, world.here.id)
    await world.remove(source)
    assert await world.find(source.id) is None
    async with world.db.read() as tx:
        row = await datasets.by_path(tx, world.here.id, path)
        for place in (world.here, world.there):
            assert await bases.held_by(tx, place.id) == []
    assert row is not None
    assert (row.retired, row.trimmed, row.container_id) == (True, False, None)
    assert (await world.get(copy.id)).source_container_id == source.id


async def test_a_delete_that_was_killed_after_its_commit_is_done(
    world: World, source: Container
) -> None:
    job = await world.queue(JobType.DELETE, source, params={"was": "running"})
    running = await world.claim(job)
    await ACTIONS[JobType.DELETE].run(world.context(running))
    await world.end(running, Move.REQUEUE)
    await world.carry_out(job)
    assert await world.find(source.id) is None


async def test_a_container_that_never_lived_is_deleted(world: World) -> None:
    empty = await world.add("empty", status=Status.ERROR)
    await world.remove(empty)
    assert await world.find(empty.id) is None


async def test_a_delete_that_fails_leaves_the_container_as_it_was(
    world: World, source: Container
) -> None:
    await world.change(source, status=Status.DELETING)
    job = await world.running(JobType.DELETE, source, params={"was": "stopped"})
    await world.end(job, Move.FAIL)
    after = await world.get(source.id)
    assert (after.status, after.status_reason) == (Status.STOPPED, "FAULT: it failed")
