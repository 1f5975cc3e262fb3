"""A container that does not start after its switch: the job switches back, and nothing is lost."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.actions import ACTIONS
from daemon.actions.context import Context
from daemon.errors import JobError
from daemon.model import Container, Job, Status, now
from daemon.runtime.none import NoRuntime
from daemon.states import Move
from tests.engine_world import World

Meanwhile = Callable[[], Awaitable[object]]


@pytest.fixture(params=["world", pytest.param("zfs_world", marks=pytest.mark.zfs)])
def place(request: pytest.FixtureRequest) -> World:
    """Two servers of each backend."""
    found: World = request.getfixturevalue(request.param)
    return found


class Stubborn(NoRuntime):
    """A runtime that starts on one root filesystem only, if on any; others do something meanwhile,
    when it has failed."""

    def __init__(self, good: str, meanwhile: Meanwhile | None = None) -> None:
        self._good = good
        self._meanwhile = meanwhile
        self.started: list[str] = []

    async def start(self, container: Container, rootfs: str) -> None:
        self.started.append(rootfs)
        if rootfs != self._good:
            if self._meanwhile is not None:
                await self._meanwhile()
            raise JobError("START_FAILED", "it will not")


async def attempt(world: World, job: Job, runtime: Stubborn) -> Context:
    """An attempt that ends with START_FAILED, and the job's end."""
    ctx = world.context(await world.claim(job))
    ctx.runtime = runtime
    with pytest.raises(JobError, match="it will not"):
        await ACTIONS[job.type].run(ctx)
    await world.end(ctx.job, Move.FAIL)
    return ctx


async def test_a_sync_leaves_the_copy_as_it_was(place: World) -> None:
    """Also what was written to it, though the collector comes by and has no patience."""
    source = await place.create()
    copy = await place.copy(source)
    live = await place.live(copy)
    (live / "mine").write_text("written since")
    (await place.live(source) / "file").write_text("second")
    before = await place.get(copy.id)

    job = await place.begin_sync(copy)
    collect = place.collector(place.there)
    runtime = Stubborn(str(live), lambda: collect.run(now()))
    await attempt(place, job, runtime)
    assert len(runtime.started) == 2
    assert runtime.started[1] == str(live)
    after = await place.get(copy.id)
    sizes = {"referenced_bytes": after.referenced_bytes, "unique_bytes": after.unique_bytes}
    assert after == replace(before, **sizes)
    await place.settle(place.there)
    assert (live / "mine").read_text() == "written since"
    current = Path(place.there.config.storage.mount_root, copy.id, "current")
    assert os.readlink(current) == before.generation_id
    assert not await place.findings(place.there)

    await place.sync(copy)
    assert (await place.live(copy) / "file").read_text() == "second"
    await place.settle(place.there)
    assert not live.exists()  # what was replaced is the collector's once the job has ended


async def test_a_restore_leaves_the_container_as_it_was(place: World) -> None:
    web = await place.create()
    snapshot = await place.snapshot(web)
    live = await place.live(web)
    (live / "file").write_text("second")
    runtime = Stubborn(str(live))
    await attempt(place, await place.begin_restore(web, snapshot), runtime)
    await place.settle(place.here)
    assert (await place.get(web.id)).status is Status.RUNNING
    assert ((await place.live(web)) / "file").read_text() == "second"


async def test_what_does_not_start_at_all_is_stopped(place: World) -> None:
    source = await place.create()
    copy = await place.copy(source)
    live = await place.live(copy)
    await attempt(place, await place.begin_sync(copy, strategy="full"), Stubborn("neither"))
    after = await place.get(copy.id)
    assert (after.status, after.status_reason) == (Status.STOPPED, "START_FAILED: it will not")
    assert await place.live(copy) == live


async def test_a_first_start_that_fails(place: World) -> None:
    """There is nothing to switch back to; the copy has its filesystem, and is stopped."""
    source = await place.create()
    copy, job = await place.begin_copy(source)
    await attempt(place, job, Stubborn("nowhere"))
    after = await place.get(copy.id)
    assert (after.status, after.status_reason) == (Status.STOPPED, "START_FAILED: it will not")
    assert (await place.live(copy) / "file").read_text() == "first"


async def test_a_crash_between_switch_and_start(place: World) -> None:
    """The next attempt starts what is live by now, and still knows what to switch back to."""
    source = await place.create()
    copy = await place.copy(source)
    live = await place.live(copy)
    (await place.live(source) / "file").write_text("second")
    job = await place.begin_sync(copy)
    ctx = place.context(await place.claim(job))

    class Killed(Exception):
        """The end of the process."""

    async def die() -> None:
        raise Killed

    ctx.runtime = Stubborn("nowhere", die)
    with pytest.raises(Killed):
        await ACTIONS[job.type].run(ctx)
    assert await place.live(copy) != live
    await place.end(ctx.job, Move.REQUEUE)
    await place.settle(place.there)
    await attempt(place, job, Stubborn(str(live)))
    assert await place.live(copy) == live
    assert (live / "file").read_text() == "first"
    assert (await place.get(copy.id)).status is Status.RUNNING
