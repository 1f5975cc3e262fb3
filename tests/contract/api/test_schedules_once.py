"""Schedules: one sync for a due time, whoever looks, however often, and whoever dies of it."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from daemon import scheduler
from daemon.errors import CatalogueError
from daemon.model import Job
from daemon.store import containers, schedules
from daemon.store.database import Database
from tests.contract.api.api_world import World
from tests.contract.api.timetable import MINUTELY, T0, TICK, done, due, looked, scheduled

DAEMON = Path(__file__).with_name("scheduling.py")
ROOT = DAEMON.parents[3]
PROGRAM_SECONDS = 120


async def test_daemons_that_look_at_once_begin_one(world: World, tmp_path: Path) -> None:
    copies = [await scheduled(world, name=f"copy{number}") for number in range(5)]
    others = [Database(f"sqlite:///{tmp_path}/catalogue.db") for _ in range(3)]
    at = T0 + timedelta(days=1)
    config = world.deps.config
    found = await asyncio.gather(*(scheduler.sync_due(db, config, at) for db in others))
    begun = [job.container_id for part in found for job in part]
    assert sorted(begun) == sorted(copy.id for copy in copies)
    assert len(await world.all_jobs()) == len(copies)
    for db in others:
        await db.close()


async def test_daemons_that_are_killed_again_and_again_begin_each_sync_once(
    world: World, tmp_path: Path
) -> None:
    """Two look at the same due times at once; one dies with its second sync in hand, the other one
    right after it."""
    copies = [await scheduled(world, name=f"copy{number}") for number in range(6)]
    at = T0 + timedelta(days=1)
    arguments = [f"sqlite:///{tmp_path}/catalogue.db", world.here.id, at.isoformat(), "2"]
    command = [sys.executable, "-W", "error", str(DAEMON), *arguments]
    ends = []
    while len(await world.all_jobs()) < len(copies):
        pair = [
            subprocess.Popen([*command, moment], env={"PYTHONPATH": ROOT})
            for moment in ("before", "after")
        ]
        ends += [program.wait(PROGRAM_SECONDS) for program in pair]
        assert -signal.SIGKILL in ends[-2:] or len(await world.all_jobs()) == len(copies)
    assert ends.count(-signal.SIGKILL) >= 3
    made = [job.container_id for job in await world.all_jobs()]
    assert sorted(made) == sorted(copy.id for copy in copies)
    for copy in copies:
        assert (await due(world, copy)).date() == at.date() + timedelta(days=1)


class Forgetful(Database):
    """A catalogue that commits, and is gone before it can say so."""

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Any]:
        async with super().write() as tx:
            yield tx
        raise CatalogueError("gone")


async def test_one_whose_commit_was_not_confirmed_is_not_begun_again(
    world: World, tmp_path: Path
) -> None:
    copy = await scheduled(world)
    at = await due(world, copy)
    forgetful = Forgetful(f"sqlite:///{tmp_path}/catalogue.db")
    with pytest.raises(CatalogueError):
        await scheduler.sync_due(forgetful, world.deps.config, at)
    await forgetful.close()
    assert await looked(world, at) == []
    assert (await world.the_job()).container_id == copy.id


class Slow(Database):
    """A catalogue whose first writer waits until something else has happened."""

    def __init__(self, url: str, meanwhile: Callable[[], Awaitable[None]]) -> None:
        super().__init__(url)
        self._meanwhile = [meanwhile]

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Any]:
        while self._meanwhile:
            await self._meanwhile.pop()()
        async with super().write() as tx:
            yield tx


@pytest.mark.parametrize("what", ["another daemon", "another schedule", "its end", "a delete"])
async def test_a_daemon_that_was_slow_begins_nothing_that_is_no_longer_due(
    world: World, tmp_path: Path, what: str
) -> None:
    copy = await scheduled(world)
    at = await due(world, copy)
    told: list[Job] = []

    async def meanwhile() -> None:
        if what == "another daemon":
            told.extend(await looked(world, at))
            await done(world, told[0])
            return
        async with world.db.write() as tx:
            if what == "a delete":
                await containers.delete(tx, copy.id)
                return
            text = MINUTELY if what == "another schedule" else None
            await containers.change(tx, copy.id, sync_schedule=text)
            await schedules.put(tx, copy.id, at + TICK if text else None)

    slow = Slow(f"sqlite:///{tmp_path}/catalogue.db", meanwhile)
    assert await scheduler.sync_due(slow, world.deps.config, at) == []
    await slow.close()
    assert [job.id for job in await world.all_jobs()] == [job.id for job in told]
    if what == "another schedule":
        assert await due(world, copy) == at + TICK
