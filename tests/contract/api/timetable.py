"""Copies with a schedule, and a clock that the test moves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from daemon import scheduler
from daemon.model import Container, Job, Server, Status, now
from daemon.schedule import next_sync
from daemon.states import Move
from daemon.store import containers, jobs, schedules
from tests.contract.api.api_world import World

T0 = datetime(2026, 1, 15, 10, 30, tzinfo=UTC)
DAILY = "0 2 * * *"
MINUTELY = "* * * * *"
TICK = timedelta(milliseconds=1)


async def scheduled(
    world: World, text: str = DAILY, name: str = "copy", **columns: Any
) -> Container:
    """A copy with a schedule, of which nothing was due before T0."""
    source = await world.container(f"{name}-source")
    made = await world.copy_of(source, name, **{"sync_schedule": text} | columns)
    async with world.db.write() as tx:
        await schedules.put(tx, made.id, next_sync(text, made.id, T0, T0))
    return made


async def begins(world: World, container: Container) -> datetime | None:
    async with world.db.read() as tx:
        row = await schedules.get(tx, container.id)
    return None if row is None else row.next_sync_at


async def due(world: World, container: Container) -> datetime:
    """When its next sync begins."""
    found = await begins(world, container)
    assert found is not None
    return found


async def looked(world: World, at: datetime, server: Server | None = None) -> list[Job]:
    """What a server's daemon begins at this time."""
    config = world.deps.config
    if server is not None:
        section = config.server.model_copy(update={"id": server.id})
        config = config.model_copy(update={"server": section})
    return await scheduler.sync_due(world.db, config, at)


async def done(world: World, job: Job) -> None:
    """The job succeeds, and the copy runs again."""
    async with world.db.write() as tx:
        claimed = await jobs.claim(tx, job.server_id, now(), now() + timedelta(minutes=1))
        assert claimed is not None
        await jobs.move(tx, claimed, Move.SUCCEED, at=now())
        await containers.change(tx, job.container_id, status=Status.RUNNING)
