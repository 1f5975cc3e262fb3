"""Collect beside others: what is busy, what happens while it looks, and what a kill leaves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from daemon.actions import ACTIONS
from daemon.model import Container, JobType, hold_tag, new_id, now
from daemon.states import Move
from daemon.store import containers, datasets, holdings
from tests.engine_world import World
from transfer.errors import DatasetBusy, PermissionMissing, StorageError
from transfer.storage.directory import DirectoryStorage

BUSY = DatasetBusy("in use")
NOT_ROOT = PermissionMissing("may not")  # on zfs, where the daemon runs without it

for_either = pytest.mark.parametrize("why", [BUSY, NOT_ROOT], ids=["busy", "not root"])


class Tied(DirectoryStorage):
    """A storage with a dataset that cannot be unmounted: on zfs a file held open does that."""

    path = ""
    why: StorageError = BUSY

    @classmethod
    def of(cls, storage: Any, path: str, why: StorageError = BUSY) -> Tied:
        tied = cls(storage._layout.root, storage._mount_root, storage._lock_dir, storage._traits)
        tied.path, tied.why = path, why
        return tied

    async def unmount(self, path: str) -> None:
        if path == self.path:
            raise self.why
        await super().unmount(path)


@for_either
async def test_what_is_tied_stays_for_a_later_round(
    world: World, copy: Container, why: StorageError
) -> None:
    old = await world.switch(copy, "second")
    tied = Tied.of(world.there.storage, old, why)
    done = await world.collector(world.there, storage=tied).run(now())
    assert old not in [deed.path for deed in done]
    async with world.db.read() as tx:
        row = await datasets.by_path(tx, world.there.id, old)
    assert row is not None
    assert row.ready
    assert (world.there.storage.is_mounted(old), len(await world.paths(world.there))) == (True, 4)
    done = await world.collector(world.there).run(now())
    assert old in [deed.path for deed in done]


class Used(DirectoryStorage):
    """A storage whose datasets cannot be destroyed: somebody uses them."""

    why: StorageError = BUSY

    async def destroy(self, path: str) -> None:
        raise self.why


@for_either
async def test_what_cannot_be_destroyed_stays_what_it_was(
    world: World, copy: Container, why: StorageError
) -> None:
    old = await world.switch(copy, "second")
    layout, storage = world.there.storage._layout, world.there.storage
    used = Used(layout.root, storage._mount_root, storage._lock_dir, storage._traits)
    used.why = why
    await world.collector(world.there, storage=used).run(now())
    async with world.db.read() as tx:
        row = await datasets.by_path(tx, world.there.id, old)
    assert row is not None
    assert row.ready
    await world.settle(world.there)
    assert old not in await world.paths(world.there)


@for_either
async def test_a_tied_orphan_stays_where_it_is(
    world: World, source: Container, why: StorageError
) -> None:
    await world.copy(source, world.here, "twin")
    await world.remove(source)
    tied = Tied.of(world.here.storage, world.path(source), why)
    await world.collector(world.here, storage=tied).run(now())
    assert world.path(source) in await world.paths(world.here)
    await world.settle(world.here)
    assert world.path(source) not in await world.paths(world.here)


class Watched(DirectoryStorage):
    """A storage with whose first look at everything something happens, right after it."""

    then: Callable[[], Awaitable[None]] | None = None

    async def forest(self) -> Any:
        found = await super().forest()
        then, self.then = self.then, None
        if then is not None:
            await then()
        return found


@pytest.fixture
def watched(world: World) -> Watched:
    storage: Any = world.here.storage
    return Watched(storage._layout.root, storage._mount_root, storage._lock_dir, storage._traits)


async def test_a_job_that_ends_while_collect_looks_keeps_its_rows(
    world: World, watched: Watched
) -> None:
    """What it made after the look must not be forgotten as missing: nobody would ever collect
    it."""
    made = await world.add("web")
    params = {"source_path": str(world.tree)}
    job = await world.queue(JobType.CREATE, made, params=params)

    async def fail() -> None:
        ctx = world.context(await world.claim(job))
        ctx.mount_root = "/nowhere/at/all"
        with pytest.raises(FileNotFoundError):
            await ACTIONS[JobType.CREATE].run(ctx)
        await world.end(ctx.job, Move.REQUEUE)
        async with world.db.write() as tx:
            await containers.change(tx, made.id, generation_id=None)
            for row in await datasets.on_server(tx, world.here.id):
                await datasets.change(tx, row.id, ready=False)
        await world.end(await world.claim(job), Move.FAIL)

    watched.then = fail
    await world.collector(world.here, storage=watched).run(now())
    assert set(await world.paths(world.here)) >= (await world.forest(world.here)).datasets.keys()
    await world.settle(world.here)
    assert (await world.forest(world.here)).datasets == {}
    assert await world.paths(world.here) == []


async def test_a_job_that_ends_while_collect_looks_keeps_no_hold(
    world: World, source: Container, watched: Watched
) -> None:
    _, job = await world.begin_copy(source)
    running = await world.claim(job)
    async with world.db.write() as tx:
        await holdings.add(tx, job.id, world.here.id)

    async def hold_and_fail() -> None:
        await world.here.storage.snapshot(world.path(source), f"h-{new_id()}", hold_tag(job.id))
        await world.end(running, Move.FAIL)

    watched.then = hold_and_fail
    await world.collector(world.here, storage=watched).run(now())
    await world.settle(world.here)
    assert [s for s in (await world.forest(world.here)).snapshots() if s.holds] == []


async def test_a_dataset_that_was_destroyed_before_its_row_was_forgotten(
    world: World, copy: Container
) -> None:
    """Killed between the two: the next round forgets it."""
    old = await world.switch(copy, "second")
    async with world.db.write() as tx:
        row = await datasets.by_path(tx, world.there.id, old)
        assert row is not None
        await datasets.change(tx, row.id, ready=False)
    await world.there.storage.destroy(old)
    await world.settle(world.there)
    assert old not in await world.paths(world.there)
