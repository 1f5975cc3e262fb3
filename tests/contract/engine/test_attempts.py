"""A job that is killed at any line is done by its next attempt, and leaves nothing behind.

The kill comes after each call of the storage and each commit of the catalogue, one after the
other, until an attempt gets through.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from engine_world import Place, World

from daemon import doctor
from daemon.actions import ACTIONS
from daemon.model import Container, Job, JobType, Status, new_id, now
from daemon.states import Move
from daemon.store import holdings
from daemon.store.database import Database, Tx

KILLS_MAX = 120


class Killed(BaseException):
    """Nothing catches it, as nothing survives a kill."""


class Fuse:
    """Kills when the call with this number has been made."""

    def __init__(self, number: int) -> None:
        self._left = number
        self.blown = False

    def burn(self) -> None:
        self._left -= 1
        if self._left == 0:
            self.blown = True
            raise Killed


class MortalDatabase:
    """The catalogue, whose commits count."""

    def __init__(self, db: Database, fuse: Fuse) -> None:
        self._db = db
        self._fuse = fuse
        self.read = db.read

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Tx]:
        async with self._db.write() as tx:
            yield tx
        self._fuse.burn()


class MortalStorage:
    """A storage, whose calls count."""

    def __init__(self, storage: Any, fuse: Fuse) -> None:
        self._storage = storage
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._storage, name)
        if name in ("rootfs", "is_mounted", "send") or name.startswith("tree_"):
            return found

        async def call(*args: Any) -> Any:
            result = await found(*args)
            self._fuse.burn()
            return result

        return call


async def attempt(world: World, job: Job, fuse: Fuse) -> bool:
    """One attempt; False when it was killed, and the job is queued again."""
    claimed = await world.claim(job)
    mortal: Any = MortalDatabase(world.db, fuse)
    storage = MortalStorage(world.place(job.server_id).storage, fuse)
    ctx = world.context(claimed, mortal, storage)
    server = world.place
    world.place = lambda server_id: _mortal_peer(server(server_id), job, fuse)
    try:
        await ACTIONS[job.type].run(ctx)
    except Killed:
        await world.end(claimed, Move.REQUEUE)
        return False
    finally:
        world.place = server
    await world.end(claimed)
    return True


def _mortal_peer(place: Place, job: Job, fuse: Fuse) -> Place:
    if place.id == job.server_id:
        return place
    storage: Any = MortalStorage(place.storage, fuse)
    return Place(place.server, storage, place.config)


async def kill_at_every_call(
    world: World, begin: Callable[[int], Awaitable[Job]], check: Callable[[int], Awaitable[None]]
) -> None:
    for number in range(1, KILLS_MAX):
        job = await begin(number)
        fuse = Fuse(number)
        if not await attempt(world, job, fuse):
            assert await attempt(world, job, fuse)
        await check(number)
        if not fuse.blown:
            assert number > 5
            return
    pytest.fail("an attempt has more calls than expected")


async def clean(world: World) -> None:
    """Collect finds nothing to do any more, no hold is left, and doctor has no findings."""
    for place in (world.here, world.there):
        await world.settle(place)
        async with world.db.read() as tx:
            assert await holdings.of_server(tx, place.id) == []
        assert [s for s in (await world.forest(place)).snapshots() if s.holds] == []
        assert await doctor._findings(world.db, place.storage, place.config) == []


@pytest.mark.parametrize("where", ["here", "there"])
async def test_a_sync_killed_at_any_call(world: World, where: str) -> None:
    source = await world.create()
    copy = await world.copy(source, getattr(world, where))

    async def begin(turn: int) -> Job:
        (await world.live(source) / "file").write_text(f"turn {turn}")
        return await world.begin_sync(copy)

    async def check(turn: int) -> None:
        assert (await world.live(copy) / "file").read_text() == f"turn {turn}"
        assert (await world.get(copy.id)).status is Status.RUNNING

    await kill_at_every_call(world, begin, check)
    await clean(world)
    assert len(await world.paths(world.here)) + len(await world.paths(world.there)) <= 5


async def test_a_sync_of_a_source_that_changes_between_its_attempts(world: World) -> None:
    """What was written before the first attempt is in it; the rest may be."""
    source = await world.create()
    copy = await world.copy(source)

    for number in range(1, KILLS_MAX, 3):
        (await world.live(source) / "file").write_text(f"turn {number}")
        job = await world.begin_sync(copy)
        fuse = Fuse(number)
        if not await attempt(world, job, fuse):
            (await world.live(source) / "file").write_text(f"turn {number}, later")
            assert await attempt(world, job, fuse)
        assert (await world.live(copy) / "file").read_text().startswith(f"turn {number}")
        if not fuse.blown:
            break
    await clean(world)


async def test_a_copy_killed_at_any_call(world: World) -> None:
    source = await world.create()
    made: dict[int, Container] = {}

    async def begin(turn: int) -> Job:
        made[turn], job = await world.begin_copy(source, name=f"copy-{turn}")
        return job

    async def check(turn: int) -> None:
        copy = await world.get(made[turn].id)
        assert copy.status is Status.RUNNING
        assert (await world.live(copy) / "file").read_text() == "first"
        key = (await world.live(copy) / "root" / ".ssh" / "authorized_keys").read_text()
        assert key.strip() == copy.ssh_public_key
        await world.remove(copy)

    await kill_at_every_call(world, begin, check)
    await clean(world)
    assert await world.paths(world.there) == []


async def test_a_create_killed_at_any_call(world: World) -> None:
    made: dict[int, Container] = {}

    async def begin(turn: int) -> Job:
        made[turn] = await world.add(f"web-{turn}")
        params = {"source_path": str(world.tree)}
        return await world.queue(JobType.CREATE, made[turn], params=params)

    async def check(turn: int) -> None:
        assert (await world.live(made[turn]) / "file").read_text() == "first"
        await world.remove(made[turn])

    await kill_at_every_call(world, begin, check)
    await clean(world)
    assert await world.paths(world.here) == []


async def test_a_collect_killed_at_any_call(world: World) -> None:
    source = await world.create()
    copy = await world.copy(source)
    number, through = 0, False
    while not through:
        number += 2
        assert number < KILLS_MAX
        (await world.live(source) / "file").write_text(new_id())
        await world.sync(copy)
        doomed = await world.copy(source, name=f"doomed-{number}")
        await world.sync(doomed)
        await world.remove(doomed)
        fuse = Fuse(number)
        mortal: Any = MortalDatabase(world.db, fuse)
        collector = world.collector(world.there, storage=MortalStorage(world.there.storage, fuse))
        collector._db = mortal
        try:
            for _ in range(3):
                await collector.run(now())
            through = True
        except Killed:
            await world.settle(world.there)
        assert (await world.live(copy) / "file").read_text()
        await clean(world)
