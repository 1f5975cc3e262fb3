"""What an action is given: the job and the means to carry it out."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from daemon.errors import JobError
from daemon.model import Container, Job, Json, Server, hold_tag
from daemon.runtime.base import Runtime
from daemon.store import containers, jobs, servers
from daemon.store.database import Database, Tx
from transfer.model import Progress, Step
from transfer.peer.traffic import Traffic
from transfer.storage.base import Source, Storage


class Peer(Source, Protocol):
    """A source on another server."""

    @property
    def traffic(self) -> Traffic:
        """What has moved through its channels so far."""
        ...

    def begins(self, step: Step) -> None:
        """What is asked for from now on is for this step."""
        ...


Connect = Callable[[Server, str], AbstractAsyncContextManager[Peer]]


@dataclass
class Stopwatch:
    """Seconds by stage, for a job's result."""

    seconds: dict[str, float] = field(default_factory=dict)

    @asynccontextmanager
    async def lap(self, stage: str) -> AsyncIterator[None]:
        """Adds the time inside to the stage."""
        began = time.monotonic()
        try:
            yield
        finally:
            spent = time.monotonic() - began
            self.seconds[stage] = round(self.seconds.get(stage, 0.0) + spent, 6)

    def move(self, seconds: float, source: str, target: str) -> None:
        """Counts a part of one stage's time as another's."""
        self.seconds[source] = round(self.seconds.get(source, 0.0) - seconds, 6)
        self.seconds[target] = round(self.seconds.get(target, 0.0) + seconds, 6)


@dataclass
class Context:
    """One attempt at one job, on the container's own server."""

    job: Job
    db: Database
    storage: Storage
    runtime: Runtime
    server_id: str
    sealing_key: bytes
    import_roots: tuple[str, ...]
    storage_root: str
    mount_root: str
    connect: Connect
    report: Callable[[Progress], None]
    wire_before_bytes: int = 0
    watch: Stopwatch = field(default_factory=Stopwatch)
    peer: Peer | None = None

    def wire_bytes(self) -> int:
        """What the job has moved between servers so far, earlier attempts included."""
        return self.wire_before_bytes + (self.peer.traffic.wire_bytes if self.peer else 0)

    @property
    def tag(self) -> str:
        """The tag of this job's holds."""
        return hold_tag(self.job.id)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Tx]:
        """A transaction of this attempt, the only way in which an action writes to the catalogue.
        Raises LeaseLost where the attempt is over; if it is not, it is not before the commit."""
        async with self.db.write() as tx:
            await jobs.still_ours(tx, self.job)
            yield tx

    async def step(self, step: str) -> None:
        """Names the step that begins. Raises JobError CANCELLED at `switch` where a cancel was
        asked for, and LeaseLost where the attempt is no longer ours."""
        async with self.db.write() as tx:
            self.job = await jobs.save(tx, self.job, step=step)

    async def commits(self, tx: Tx, **facts: object) -> None:
        """Is part of the transaction that makes what the job is about be so: with it, it is too
        late to cancel. What is to be remembered of it is. Raises as `step` does."""
        checkpoint = {**self.job.checkpoint, **facts}
        self.job = await jobs.save(tx, self.job, step="switch", checkpoint=checkpoint)

    async def remember(self, **facts: object) -> None:
        """Adds to the checkpoint what cannot be derived again, before anything is made by it."""
        async with self.db.write() as tx:
            self.job = await jobs.save(tx, self.job, checkpoint={**self.job.checkpoint, **facts})

    def recall(self, name: str) -> str | None:
        """What `remember` kept in this or an earlier attempt."""
        value = self.job.checkpoint.get(name)
        return value if isinstance(value, str) else None

    async def container(self) -> Container:
        """The job's container as it stands now."""
        async with self.db.read() as tx:
            found = await containers.get(tx, self.job.container_id)
        if found is None:
            raise JobError("CONTAINER_NOT_FOUND", "the container is gone")
        return found

    async def source_container(self) -> Container:
        """The container to copy from. Raises JobError where it is gone or has no live state."""
        async with self.db.read() as tx:
            found = await containers.get(tx, self.job.source_container_id or "")
        if found is None or found.generation_id is None:
            raise JobError("SOURCE_CONTAINER_NOT_FOUND", "the source container is gone")
        return found

    async def server(self, server_id: str) -> Server:
        """A server of the cluster."""
        async with self.db.read() as tx:
            found = await servers.get(tx, server_id)
        if found is None:
            raise JobError("SERVER_LOST", "the source's server was removed", server=server_id)
        return found


@dataclass(frozen=True, slots=True)
class Action:
    """A verb. `run` returns the job's result; it may be killed at any line and run again.
    `abandon`, in the transaction that ends a job without success, says what becomes of its
    container; it is given the reason."""

    run: Callable[[Context], Awaitable[Json | None]]
    abandon: Callable[[Tx, Job, str], Awaitable[None]]


def kept_result(ctx: Context) -> Json | None:
    """The result that a switch has committed."""
    kept = ctx.job.checkpoint.get("result")
    return dict(kept) if isinstance(kept, dict) else None
