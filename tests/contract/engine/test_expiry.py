"""Expiry: each server has its own containers' lists cleared of what is over, in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from daemon import sweep
from daemon.errors import CatalogueError
from daemon.model import Container, Job, JobType, Status, UserSnapshot, new_id, now
from daemon.states import Move
from daemon.store import jobs, user_snapshots
from daemon.store.database import Database, Tx
from tests.engine_world import Place, World

OVER = timedelta(days=-3)
LONG = 600.0


async def entry(
    world: World, container: Container, expires_in: timedelta | None = OVER, **fields: object
) -> UserSnapshot:
    """A container lists it; only the catalogue knows of it."""
    made = UserSnapshot(
        container_id=container.id,
        id=str(fields.get("id", new_id())),
        name=f"snap-{new_id()}",
        guid="7",
        sequence=1,
        created_at=now(),
        expires_at=None if expires_in is None else now() + expires_in,
    )
    async with world.db.write() as tx:
        await user_snapshots.insert(tx, made)
    return made


async def swept(world: World, place: Place | None = None) -> bool:
    return await sweep.expire(world.db, (place or world.here).id, now())


async def queued(world: World) -> list[Job]:
    async with world.db.read() as tx:
        return [job for job in await jobs.active(tx) if job.type is JobType.EXPIRE]


@asynccontextmanager
async def expiring(
    world: World, pause_seconds: float = LONG, db: Database | None = None
) -> AsyncIterator[asyncio.Event]:
    """The part of the daemon of `here`; the event says that it woke the engine."""
    woken = asyncio.Event()
    part = sweep.expire_in_time(db or world.db, world.here.id, pause_seconds, woken.set)
    task = asyncio.create_task(part)
    try:
        yield woken
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()


# --- which jobs are queued -----------------------------------------------------------------------


async def test_each_container_with_something_over_gets_one_job(world: World) -> None:
    late, later, young, endless, bare = [
        await world.add(f"c{number}", status=Status.RUNNING) for number in range(5)
    ]
    for container in (late, late, later):
        await entry(world, container)
    await entry(world, young, timedelta(days=1))
    await entry(world, endless, None)
    assert await swept(world)
    made = await queued(world)
    assert {job.container_id for job in made} == {late.id, later.id}
    assert {(job.server_id, job.user_id) for job in made} == {(world.here.id, world.user.id)}
    assert bare.id not in {job.container_id for job in made}
    assert not await swept(world)
    assert await queued(world) == made


async def test_a_job_that_did_not_do_it_is_followed_by_another(world: World) -> None:
    await entry(world, await world.add("web", status=Status.RUNNING))
    assert await swept(world)
    (first,) = await queued(world)
    running = await world.claim(first)
    assert not await swept(world)
    await world.end(running, Move.FAIL)
    assert await swept(world)
    (second,) = await queued(world)
    assert second.id != first.id


@pytest.mark.parametrize("status", sorted(Status))
async def test_a_list_expires_unless_it_goes_with_its_container(
    world: World, status: Status
) -> None:
    await entry(world, await world.add("web", status=status))
    assert await swept(world) is (status is not Status.DELETING)


async def test_what_a_container_is_busy_with_is_no_obstacle(world: World) -> None:
    busy = await world.add("web", status=Status.COPYING)
    await world.running(JobType.SYNC, busy)
    await entry(world, busy)
    assert await swept(world)


async def test_each_containers_entry_expires_by_itself(world: World, source: Container) -> None:
    """A copy's entry has the time that the source's had, and from then on a time of its own."""
    snapshot = await world.snapshot(source, expiry_days=1)
    copy = await world.copy(source)
    for container, other in ((source, copy), (copy, None)):
        async with world.db.write() as tx:
            await user_snapshots.change(tx, container.id, snapshot.id, expires_at=now())
        place = world.place(container.server_id)
        elsewhere = world.there if place is world.here else world.here
        assert not await swept(world, elsewhere)
        assert await swept(world, place)
        (job,) = await queued(world)
        assert await world.carry_out(job) == {"expired": [snapshot.name]}
        assert await world.listed(container) == []
        if other is not None:
            (kept,) = await world.listed(other)
            assert kept.expires_at == snapshot.expires_at


@pytest.mark.parametrize("end", [Move.SUCCEED, Move.FAIL])
@pytest.mark.parametrize("runs", [False, True])
async def test_a_snapshot_expires_not_under_a_job_that_reads_it_but_after_it(
    world: World, source: Container, runs: bool, end: Move
) -> None:
    snapshot = await world.snapshot(source)
    reader = await world.add("copy", world.there, status=Status.COPYING)
    job = await world.queue(
        JobType.COPY, reader, source_container_id=source.id, params={"snapshot": snapshot.id}
    )
    if runs:
        job = await world.claim(job)
    async with world.db.write() as tx:
        await user_snapshots.change(tx, source.id, snapshot.id, expires_at=now())
    await entry(world, source, id="0" * 24)
    assert await swept(world)
    (expiry,) = await queued(world)
    assert await world.carry_out(expiry) is not None
    assert [kept.id for kept in await world.listed(source)] == [snapshot.id]
    assert not await swept(world)  # else a job for nothing would be queued in every round
    await world.end(job if runs else await world.claim(job), end)
    assert await swept(world)
    (expiry,) = await queued(world)
    assert await world.carry_out(expiry) == {"expired": [snapshot.name]}


# --- when ----------------------------------------------------------------------------------------


async def test_what_expired_while_no_daemon_ran_goes_at_its_start(world: World) -> None:
    await entry(world, await world.add("web", status=Status.RUNNING))
    async with expiring(world) as woken:
        await woken.wait()
    assert len(await queued(world)) == 1


async def test_a_snapshot_goes_at_its_time_and_not_before(world: World) -> None:
    container = await world.add("web", status=Status.RUNNING)
    await entry(world, container, timedelta(days=1))
    soon = await entry(world, container, timedelta(seconds=2))
    assert not await swept(world)
    async with expiring(world) as woken:
        await woken.wait()
    (job,) = await queued(world)
    assert soon.expires_at is not None
    assert job.created_at >= soon.expires_at


class Leaving(Database):
    """A catalogue that can be gone: no other fault does that to a SQLite file."""

    gone = False
    asked = 0

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Tx]:
        self.asked += 1
        if self.gone:
            raise CatalogueError("gone")
        async with super().write() as tx:
            yield tx


@pytest.fixture
async def leaving(url: str) -> AsyncIterator[Leaving]:
    database = Leaving(url)
    yield database
    await database.close()


@pytest.mark.parametrize("gone", [False, True])
async def test_what_nobody_could_foresee_goes_after_the_pause(
    world: World, leaving: Leaving, gone: bool
) -> None:
    """A snapshot that was just taken, say, or one whose time came while the catalogue was gone."""
    container = await world.add("web", status=Status.RUNNING)
    leaving.gone = gone
    async with expiring(world, 0.01, leaving) as woken:
        while leaving.asked < 3:
            await asyncio.sleep(0.01)
        await entry(world, container)
        assert not woken.is_set()
        leaving.gone = False
        await woken.wait()
    assert len(await queued(world)) == 1
