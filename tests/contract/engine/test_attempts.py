"""A job that is killed at any line is done by its next attempt, and leaves nothing behind.

The kill comes after each call of the storage and each commit of the catalogue, one after the
other, until an attempt gets through.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from daemon.model import Container, Job, JobType, Status, UserSnapshot, new_id, now
from tests.engine_world import World
from tests.mortal import Fuse, Killed, MortalDatabase, MortalStorage, attempt, clean

KILLS_MAX = 300


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


async def with_history(world: World) -> tuple[Container, list[UserSnapshot]]:
    """A source with two snapshots on a branch that it left, and one where it lives now."""
    source = await world.create()
    listed = []
    for text in ("one", "two"):
        (await world.live(source) / "file").write_text(text)
        listed.append(await world.snapshot(source))
    await world.restore(source, listed[0])
    (await world.live(source) / "file").write_text("three")
    listed.append(await world.snapshot(source))
    return source, listed


async def test_a_copy_with_a_history_killed_at_any_call(world: World) -> None:
    source, listed = await with_history(world)
    made: dict[int, Container] = {}

    async def begin(turn: int) -> Job:
        made[turn], job = await world.begin_copy(source, name=f"copy-{turn}")
        return job

    async def check(turn: int) -> None:
        inherited = await world.listed(made[turn])
        assert [entry.id for entry in reversed(inherited)] == [entry.id for entry in listed]
        forest = await world.forest(world.there)
        assert all(forest.find(entry.guid) for entry in listed)
        await world.remove(made[turn])
        await world.settle(world.there)

    await kill_at_every_call(world, begin, check)
    await clean(world)
    assert await world.paths(world.there) == []


async def test_a_restore_killed_at_any_call(world: World) -> None:
    source, listed = await with_history(world)

    async def begin(turn: int) -> Job:
        (await world.live(source) / "file").write_text(f"turn {turn}")
        return await world.begin_restore(source, listed[turn % 2])

    async def check(turn: int) -> None:
        assert (await world.live(source) / "file").read_text() == ("one", "two")[turn % 2]
        assert (await world.get(source.id)).status is Status.RUNNING
        assert len(await world.listed(source)) == 3

    await kill_at_every_call(world, begin, check)
    await clean(world)
    assert len(await world.paths(world.here)) <= 4


async def test_a_snapshot_killed_at_any_call(world: World) -> None:
    source = await world.create()

    async def begin(turn: int) -> Job:
        (await world.live(source) / "file").write_text(f"turn {turn}")
        return await world.begin_snapshot(source)

    async def check(turn: int) -> None:
        (entry,) = await world.listed(source)
        assert (await world.forest(world.here)).find(entry.guid) is not None
        await world.restore(source, entry)
        assert (await world.live(source) / "file").read_text() == f"turn {turn}"
        await world.delete_snapshot(entry)

    await kill_at_every_call(world, begin, check)
    await clean(world)
    assert len((await world.forest(world.here)).datasets) <= 2


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
