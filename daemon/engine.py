"""The job engine: claims this server's jobs, has workers run them, settles what comes of them.

It is given the actions' `abandon` and imports none of them. It knows nothing of storage.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

from daemon import lines, logs
from daemon.errors import CatalogueError, LeaseLost
from daemon.model import Job, JobType, Json, now
from daemon.news import News
from daemon.pool import Pool
from daemon.retry import Policy, next_attempt
from daemon.states import Move
from daemon.store import jobs
from daemon.store.database import Database, Tx

LEASE_SECONDS = 30.0
POLL_SECONDS = 0.25
RARE_POLL_SECONDS = 2.0
"""Between two looks while all news are told: for retries, whose time comes without any."""

Abandon = Callable[[Tx, Job, str], Awaitable[None]]

CANCELLED: Json = {
    "code": "CANCELLED",
    "message": "the job was cancelled",
    "retryable": False,
    "evidence": {},
}

log = logs.get(__name__)


@dataclass(frozen=True)
class Rules:
    """How the engine decides: when to retry, and what an unsuccessful end means by job type."""

    retry: Policy
    abandon: Mapping[JobType, Abandon]


class Engine:
    """One server's engine, which looks for work at news and now and then. `on_settled` is told of
    every job that ended."""

    def __init__(
        self,
        db: Database,
        server_id: str,
        pool: Pool,
        rules: Rules,
        *,
        news: News,
        on_settled: Callable[[Job], None],
    ) -> None:
        self._db = db
        self._server_id = server_id
        self._pool = pool
        self._rules = rules
        self._news = news
        self._on_settled = on_settled
        self._running: dict[str, tuple[Job, asyncio.Task[None]]] = {}
        self._came_round_at = time.monotonic()
        self.begun = asyncio.Event()
        """Set once it has come round for the first time."""

    def silent_seconds(self) -> float:
        """For how long it has not come round to look for work."""
        return time.monotonic() - self._came_round_at

    async def run(self) -> None:
        """Works until it is cancelled; then its running jobs are queued again, to be taken up
        at the next start."""
        recovered = False
        try:
            while True:
                heard = self._news.count
                try:
                    if not recovered:
                        await self.recover()
                        recovered = True
                    await self._round()
                except CatalogueError as error:
                    log.error("the catalogue is gone for now", reason=error.message)
                self._came_round_at = time.monotonic()
                self.begun.set()
                pause = RARE_POLL_SECONDS if self._news.complete else POLL_SECONDS
                await self._news.after(heard, pause)
        finally:
            await self._put_back()

    async def recover(self) -> None:
        """Queues what was running when the last daemon of this server ended. The caller has made
        sure that it and its workers are gone."""
        async with self._db.read() as tx:
            left = await jobs.running_on(tx, self._server_id)
        await self._queue_again({(job.id, job.attempt) for job in left})

    async def _queue_again(self, attempts: set[tuple[str, int]]) -> None:
        async with self._db.write() as tx:
            for job in await jobs.running_on(tx, self._server_id):
                if (job.id, job.attempt) in attempts:
                    await jobs.move(tx, job, Move.REQUEUE, at=now())
                    log.info("job queued again", job_id=job.id, container_id=job.container_id)

    async def _round(self) -> None:
        async with self._db.read() as tx:
            running = await jobs.running_on(tx, self._server_id)
            unwanted = await jobs.queued_to_cancel(tx, self._server_id)
            wanted = await jobs.queued_types(tx, self._server_id)
        await self._watch_running(running)
        for waiting in unwanted:  # it needs no worker to end
            await self._try_to_settle(waiting, {"error": CANCELLED})
        while types := wanted & self._pool.open_to:  # without work, no writer's turn is taken
            async with self._db.write() as tx:
                at = now()  # when it is our turn: what the job has waited for had ended by then
                until = at + timedelta(seconds=LEASE_SECONDS)
                job = await jobs.claim(tx, self._server_id, at, until, types)
            if job is None:
                return
            self._begin(job)
            await asyncio.sleep(0)  # the task takes its worker before the next claim counts

    def _begin(self, job: Job) -> None:
        task = asyncio.create_task(self._carry_out(job))
        self._running[job.id] = (job, task)
        task.add_done_callback(lambda _: self._running.pop(job.id, None))

    async def _watch_running(self, running: list[Job]) -> None:
        """Ends the attempts of jobs that are to be cancelled, or are no longer ours, and renews
        the leases of the others: not in every round, for that is a write that waits for the
        disk."""
        alive = {job.id for job in running if not job.cancel_requested}
        for job_id in self._running.keys() - alive:
            await self._pool.kill(job_id)
        at = now()
        due = at + timedelta(seconds=LEASE_SECONDS / 2)
        if any(job.lease_until is None or job.lease_until < due for job in running):
            until = at + timedelta(seconds=LEASE_SECONDS)
            async with self._db.write() as tx:
                await jobs.renew(tx, self._server_id, list(self._running), until)
        # A claim may be committed though the answer is lost on the way: nobody carries that out.
        nobodys = {
            (job.id, job.attempt)
            for job in running
            if job.id not in self._running and job.lease_until is not None and job.lease_until < at
        }
        if nobodys:
            await self._queue_again(nobodys)

    async def _carry_out(self, job: Job) -> None:
        with logs.bind(job_id=job.id, container_id=job.container_id):
            log.info("job begins", type=job.type, attempt=job.attempt)
            await self._settle(job, await self._pool.run(job))
        self._news.tell()

    async def _settle(self, job: Job, answer: lines.Message) -> None:
        """Writes down what came of an attempt; tries until the catalogue takes it."""
        while True:
            try:
                await self._try_to_settle(job, answer)
            except CatalogueError as error:
                log.error("the catalogue is gone for now", reason=error.message)
                await asyncio.sleep(POLL_SECONDS)
            else:
                return

    async def _try_to_settle(self, job: Job, answer: lines.Message) -> None:
        try:
            ended = await self._write_down(job, answer)
        except LeaseLost:
            log.warning("the attempt was no longer ours")
        else:
            if ended is not None:
                self._on_settled(ended)

    async def _write_down(self, job: Job, answer: lines.Message) -> Job | None:
        """The job as it is afterwards; None when the attempt was somebody else's already."""
        if answer.get("lost"):
            return None
        async with self._db.write() as tx:
            current = await jobs.get(tx, job.id)
            if current is None or (current.attempt, current.state) != (job.attempt, job.state):
                return None
            error = cast("Json | None", answer.get("error"))
            if error is None:
                result = cast("Json | None", answer.get("result"))
                log.info("job succeeded", type=job.type)
                return await jobs.move(
                    tx, current, Move.SUCCEED, at=now(), result=result, error=None
                )
            return await self._unsuccessful(tx, current, error)

    async def _unsuccessful(self, tx: Tx, job: Job, error: Json) -> Job:
        at = now()
        if job.cancel_requested:
            return await self._end(tx, job, Move.CANCEL, CANCELLED)
        again = None
        if error["retryable"]:
            began = job.started_at or at
            luck = random.random()  # noqa: S311 - jitter, no secret
            again = next_attempt(self._rules.retry, job.attempt, began, at, luck)
        if again is None:
            return await self._end(tx, job, Move.FAIL, error)
        log.warning("job will be tried again", code=error["code"], message=error["message"])
        return await jobs.move(tx, job, Move.REQUEUE, at=at, error=error, not_before=again)

    async def _end(self, tx: Tx, job: Job, move: Move, error: Json) -> Job:
        return await end(tx, job, move, error, self._rules.abandon[job.type])

    async def _put_back(self) -> None:
        """Queues its own attempts again, and no others: where this daemon ends because another one
        runs as this server by now, the rest are the other's."""
        ours = [job for job, _ in self._running.values()]
        tasks = [task for _, task in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._pool.close()
        try:
            await self._queue_again({(job.id, job.attempt) for job in ours})
        except CatalogueError as error:
            log.error("running jobs wait for the next start", reason=error.message)


async def end(tx: Tx, job: Job, move: Move, error: Json, abandon: Abandon) -> Job:
    """Ends a job without success. Raises LeaseLost where it has gone on meanwhile."""
    await abandon(tx, job, f"{error['code']}: {error['message']}")
    ended = await jobs.move(tx, job, move, at=now(), error=error)
    code, message = error["code"], error["message"]
    tell = log.info if move is Move.CANCEL else log.warning  # somebody wanted it so
    ids = {"job_id": job.id, "container_id": job.container_id}
    tell("job ended", **ids, type=job.type, outcome=move, code=code, message=message)
    return ended
