"""What every server does now and then, for its own containers or for the whole cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime, timedelta

from daemon import logs
from daemon.engine import CANCELLED, Abandon, end
from daemon.errors import CatalogueError, LeaseLost
from daemon.model import Job, JobState, JobType, Json, Status, new_id, now
from daemon.states import Move
from daemon.store import containers, events, idempotency, jobs, servers, user_snapshots
from daemon.store.database import Database

KEPT = timedelta(days=30)

log = logs.get(__name__)


async def expire_in_time(
    db: Database, server_id: str, pause_seconds: float, wake: Callable[[], None]
) -> None:
    """Has snapshots taken off the lists of a server's containers when their time is over, or was
    while no daemon ran; for ever. One that expires sooner than it was looked for, because it is
    new or was read by a job, goes within `pause_seconds`."""
    while True:
        at = now()
        pause = pause_seconds
        try:
            if await expire(db, server_id, at):
                wake()
            async with db.read() as tx:
                soonest = await user_snapshots.next_expiry(tx, server_id, at)
            if soonest is not None:
                pause = min(pause, (soonest - at).total_seconds())
        except CatalogueError as error:
            log.error("snapshots expire later", reason=error.message)
        await asyncio.sleep(pause)


async def expire(db: Database, server_id: str, at: datetime) -> bool:
    """Queues a job for each of a server's containers with snapshots whose time is over, where
    none does that already; whether there was one."""
    async with db.write() as tx:
        over = {entry.container_id for entry in await user_snapshots.expired(tx, server_id, at)}
        queued = await jobs.of_server_active(tx, server_id)
        over -= {job.container_id for job in queued if job.type is JobType.EXPIRE}
        due = [
            container
            for container in await containers.on_server(tx, server_id)
            if container.id in over and container.status is not Status.DELETING
        ]
        for container in due:
            job = Job(
                id=new_id(),
                type=JobType.EXPIRE,
                state=JobState.QUEUED,
                container_id=container.id,
                server_id=server_id,
                user_id=container.owner_id,
            )
            await jobs.insert(tx, job)
    return bool(due)


async def forget_old(db: Database) -> None:
    """Jobs stay readable for 30 days, events for as long as a stream may come back to them, the
    answers to requests with a key for a day."""
    async with db.write() as tx:
        await jobs.purge(tx, now() - KEPT)
        await events.purge(tx, now() - events.KEPT)
        await idempotency.purge(tx, now() - idempotency.KEPT)


async def fail_lost(
    db: Database, silent: timedelta, abandon: Mapping[JobType, Abandon]
) -> AsyncIterator[Job]:
    """Fails the jobs of servers that have been silent for too long; each as it has ended. A delete
    waits for its server."""
    for job in await _of_silent(db, silent):
        if job.type is not JobType.DELETE:
            error: Json = {
                "code": "SERVER_LOST",
                "message": "the container's server has been silent for too long",
                "retryable": False,
                "evidence": {"server_id": job.server_id},
            }
            if ended := await _end(db, job, Move.FAIL, error, abandon):
                yield ended


async def end_cancelled(
    db: Database, silent: timedelta, abandon: Mapping[JobType, Abandon]
) -> AsyncIterator[Job]:
    """Ends the jobs that are to be cancelled and wait on servers that are offline; each as it has
    ended. Had those been offline when they were asked, the jobs would have ended then."""
    for job in await _of_silent(db, silent):
        unwanted = job.cancel_requested and job.state is JobState.QUEUED
        if unwanted and (ended := await _end(db, job, Move.CANCEL, CANCELLED, abandon)):
            yield ended


async def _of_silent(db: Database, silent: timedelta) -> list[Job]:
    """The jobs that have not ended of servers without a heartbeat for so long."""
    since = now() - silent
    async with db.read() as tx:
        return [
            job
            for server in await servers.every(tx)
            if (server.last_heartbeat_at or server.created_at) < since
            for job in await jobs.of_server_active(tx, server.id)
        ]


async def _end(
    db: Database, job: Job, move: Move, error: Json, abandon: Mapping[JobType, Abandon]
) -> Job | None:
    try:
        async with db.write() as tx:
            return await end(tx, job, move, error, abandon[job.type])
    except LeaseLost:
        return None  # the server is back, or another one was faster
