"""The workers: started when there is work, kept, replaced when they die."""

from __future__ import annotations

import asyncio

from daemon import lines, logs
from daemon.children import Child
from daemon.model import Job

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
    """At most `size` workers, each with one job at a time."""

    def __init__(self, config_path: str, size: int) -> None:
        self._config_path = config_path
        self._size = size
        self._idle: list[Child] = []
        self._busy: dict[str, Child] = {}
        self._starting = 0

    @property
    def free(self) -> int:
        """How many more jobs may begin now."""
        return self._size - len(self._busy) - self._starting

    async def warm(self) -> None:
        """Starts a first worker, so that the first job need not wait for it."""
        self._starting += 1
        try:
            self._idle.append(await self._start())
        finally:
            self._starting -= 1

    async def run(self, job: Job) -> lines.Message:
        """Has a worker carry the job out; returns what it said, or LOST when it died."""
        self._starting += 1
        try:
            child = await self._take()
        except OSError as error:
            log.error("cannot start a worker", reason=str(error))
            return LOST
        finally:
            self._starting -= 1
        self._busy[job.id] = child
        try:
            child.tell({"job": job.id})
            answer = await child.read()
        except asyncio.CancelledError:
            await child.kill()
            raise
        finally:
            del self._busy[job.id]
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
