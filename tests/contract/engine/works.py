"""An engine at work for a test: jobs go in, and how they end is watched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from daemon.engine import Engine, Rules
from daemon.errors import CatalogueError
from daemon.model import Job, JobState, JobType, Status, new_id
from daemon.news import News
from daemon.pool import Pool
from daemon.retry import Policy
from daemon.states import ENDED
from daemon.store import containers, events, jobs
from daemon.store.database import Tx
from tests.contract.engine.stand_in import StandIn, until
from tests.engine_world import World

PATIENT = Policy(attempts_max=3, seconds_max=600)


@dataclass
class Works:
    """An engine that runs, and what it did."""

    world: World
    stand_in: StandIn
    pool: Pool
    settled: list[Job] = field(default_factory=list)
    abandoned: list[tuple[str, str]] = field(default_factory=list)
    faults: int = 0
    news: News = field(default_factory=News)

    def engine(self, db: Any = None, policy: Policy = PATIENT) -> Engine:
        rules = Rules(policy, dict.fromkeys(JobType, self.abandon))
        db = db or self.world.db
        settled = self.settled.append
        return Engine(db, self.world.here.id, self.pool, rules, news=self.news, on_settled=settled)

    async def abandon(self, tx: Tx, job: Job, reason: str) -> None:
        self.abandoned.append((job.id, reason))
        await containers.change(tx, job.container_id, status=Status.ERROR, status_reason=reason)
        if self.faults:
            self.faults -= 1
            raise CatalogueError("a fault of the test")

    @asynccontextmanager
    async def running(self, engine: Engine | None = None) -> AsyncIterator[Engine]:
        engine = engine or self.engine()
        task = asyncio.create_task(engine.run())
        try:
            yield engine
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert task.cancelled()
            assert self.stand_in.alive == []

    async def job(self, *answers: str, type: JobType = JobType.SYNC, **columns: Any) -> Job:
        made = await self.world.add(f"c-{new_id()}", status=Status.COPYING)
        job = await self.world.queue(type, made, **columns)
        self.stand_in.say(job.id, *answers)
        return job

    async def ended(self, job: Job) -> Job:
        """How it has ended; that is told, to be counted."""
        while (current := await self.world.job(job.id)).state not in ENDED:
            await asyncio.sleep(0.01)
        await until(lambda: current in self.settled)
        return current

    async def begun(self, job: Job) -> Job:
        while (current := await self.world.job(job.id)).state is not JobState.RUNNING:
            await asyncio.sleep(0.01)
        await until(lambda: self.stand_in.hanging)
        return current

    async def cancel(self, job: Job) -> None:
        async with self.world.db.write() as tx:
            assert await jobs.request_cancel(tx, job.id) is not None

    async def story(self, job: Job) -> list[str]:
        """The states that the job's events tell of."""
        async with self.world.db.read() as tx:
            told = await events.since(tx, 0, 1000)
        return [str(event.data["state"]) for event in told if event.job_id == job.id]
