"""An engine for the API's tests: no storage, but what a job leaves in the catalogue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from daemon.model import Job, JobType, Json, Status, UserSnapshot, now
from daemon.states import Move
from daemon.store import containers, jobs, user_snapshots
from daemon.store.database import Tx
from daemon.store.sequence import next_sequence

if TYPE_CHECKING:
    from api_world import World

LOOK_SECONDS = 60


@dataclass
class PlayedEngine:
    """Ends every job by `move` as soon as it is woken; those that fail, with `error`."""

    world: World
    move: Move = Move.SUCCEED
    error: Json | None = None
    done: list[Job] = field(default_factory=list)

    async def play(self) -> None:
        while True:
            heard = self.world.news.count
            while await self._one():
                pass
            await self.world.news.after(heard, LOOK_SECONDS)

    async def _one(self) -> bool:
        async with self.world.db.write() as tx:
            for server in (self.world.here, self.world.there, self.world.pool):
                until = now() + timedelta(minutes=1)
                job = await jobs.claim(tx, server.id, now(), until)
                if job is not None:
                    result = await carry_out(tx, job) if self.move is Move.SUCCEED else None
                    await _put_back(tx, job)
                    given: dict[str, Any] = {"result": result, "error": self.error}
                    self.done.append(await jobs.move(tx, job, self.move, at=now(), **given))
                    return True
        return False


async def carry_out(tx: Tx, job: Job) -> Json | None:
    """What the action of a snapshot's job leaves in the catalogue."""
    params: Any = job.params
    if job.type is JobType.SNAPSHOT:
        made = await new_snapshot(tx, job.container_id, params)
        return {"snapshot": made.name, "inconsistent_files": made.inconsistent_files}
    if job.type is JobType.SNAPSHOT_DELETE:
        entry = await user_snapshots.get(tx, job.container_id, params["snapshot"])
        if entry is not None:
            await user_snapshots.drop(tx, entry)
    if job.type is JobType.RESTORE:
        used = {"last_used_at": now()}
        await user_snapshots.change(tx, job.container_id, params["snapshot"], **used)
    return None


async def new_snapshot(tx: Tx, container_id: str, params: Any) -> UserSnapshot:
    """An entry as the action makes it."""
    at, days = now(), params.get("expiry_days")
    sequence = await next_sequence(tx)
    made = UserSnapshot(
        container_id=container_id,
        id=params["snapshot"],
        name=f"snap-{at:%Y%m%d-%H%M%S}-{sequence}",
        guid=str(10**18 + sequence),
        sequence=sequence,
        created_at=at,
        alias=params.get("alias"),
        expires_at=None if days is None else at + timedelta(days=days),
        referenced_bytes=2 << 30,
        unique_bytes=4096,
        inconsistent_files=3,
    )
    await user_snapshots.insert(tx, made)
    return made


async def _put_back(tx: Tx, job: Job) -> None:
    if job.type is JobType.RESTORE:
        await containers.change(tx, job.container_id, status=Status(str(job.params["was"])))


@asynccontextmanager
async def playing(world: World) -> AsyncIterator[PlayedEngine]:
    """An engine for as long as the block lasts, which ends where the engine breaks."""
    engine = PlayedEngine(world)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(engine.play())
        yield engine
        task.cancel()
