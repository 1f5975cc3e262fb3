"""The workers: started when there is work, kept, replaced when they die."""

from __future__ import annotations

import asyncio

from daemon import lines, logs
from daemon.children import Child
from daemon.model import SHORT, Job, JobType
from daemon.traffic import Counting

log = logs.get(__name__)

LOST: lines.Message = {
    "error": {
        "code": "WORKER_LOST",
        "message": "the worker process ended in the middle of the job",
        "retryable": True,
        "evidence": {},
    }
}


class Pool:
    """Workers with one job each: at most `size` that may take long, and one more job, so that a
    short one never waits behind transfers."""

    def __init__(self, config_path: str, size: int, counting: Counting) -> None:
        self._config_path = config_path
        self._counting = counting
        self._size = size
        self._idle: list[Child] = []
        self._busy: dict[str, Child] = {}
        self._in_hand: dict[str, JobType] = {}

    @property
    def open_to(self) -> frozenset[JobType]:
        """The types of which a job may begin now."""
        if len(self._in_hand) > self._size:
            return frozenset()
        long = [job_type for job_type in self._in_hand.values() if job_type not in SHORT]
        return frozenset(JobType) if len(long) < self._size else SHORT

    async def warm(self) -> None:
        """Starts a first worker, so that the first job need not wait for it."""
        self._idle.append(await self._start())

    async def run(self, job: Job) -> lines.Message:
        """Has a worker carry the job out; returns what it said, or LOST when it died."""
        self._in_hand[job.id] = job.type
        try:
            return await self._run(job)
        finally:
            del self._in_hand[job.id]

    async def _run(self, job: Job) -> lines.Message:
        try:
            child = await self._take()
        except OSError as error:
            log.error("cannot start a worker", reason=str(error))
            return LOST
        self._busy[job.id] = child
        try:
            child.tell({"job": job.id})
            while (answer := await child.read()) is not None:
                if not self._counting.heard(job.id, answer):
                    break
        except asyncio.CancelledError:
            await child.kill()
            raise
        finally:
            del self._busy[job.id]
            self._counting.gone(job.id)
        if answer is None:
            await child.kill()
            return LOST
        self._idle.append(child)
        return answer

    async def kill(self, job_id: str) -> None:
        """Ends the worker that has the job, and so the attempt."""
        child = self._busy.get(job_id)
        if child is not None:
            await child.kill()

    async def close(self) -> None:
        """Ends all workers."""
        for child in [*self._idle, *self._busy.values()]:
            await child.kill()
        self._idle.clear()

    async def _take(self) -> Child:
        while self._idle:
            child = self._idle.pop()
            if child.alive:
                return child
            await child.kill()
        return await self._start()

    async def _start(self) -> Child:
        child = await Child.start("worker", self._config_path)
        try:
            if await child.read() is None:
                log.error("a worker could not start")
        except asyncio.CancelledError:
            await child.kill()
            raise
        return child
