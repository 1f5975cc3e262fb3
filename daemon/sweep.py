"""What every server does now and then for the whole cluster."""

from __future__ import annotations

from datetime import datetime, timedelta

from daemon import logs
from daemon.engine import Abandon
from daemon.errors import LeaseLost
from daemon.model import Job, JobType, Json, now
from daemon.states import Move
from daemon.store import events, jobs, servers
from daemon.store.database import Database

KEPT = timedelta(days=30)

log = logs.get(__name__)


async def forget_old(db: Database) -> None:
    """Jobs stay readable for 30 days, and so do events."""
    async with db.write() as tx:
        await jobs.purge(tx, now() - KEPT)
        await events.purge(tx, now() - KEPT)


async def fail_lost(db: Database, silent: timedelta, abandon: dict[JobType, Abandon]) -> None:
    """Fails the jobs of servers that have been silent for too long. A delete waits for them."""
    at = now()
    async with db.read() as tx:
        lost = [
            server
            for server in await servers.every(tx)
            if (server.last_heartbeat_at or server.created_at) < at - silent
        ]
        active = [job for server in lost for job in await jobs.of_server_active(tx, server.id)]
    for job in active:
        if job.type is not JobType.DELETE:
            await _fail(db, job, abandon[job.type], at)


async def _fail(db: Database, job: Job, abandon: Abandon, at: datetime) -> None:
    error: Json = {
        "code": "SERVER_LOST",
        "message": "the container's server has been silent for too long",
        "retryable": False,
        "evidence": {"server_id": job.server_id},
    }
    try:
        async with db.write() as tx:
            await abandon(tx, job, f"{error['code']}: {error['message']}")
            await jobs.move(tx, job, Move.FAIL, at=at, error=error)
    except LeaseLost:
        return  # the server is back, or another one was faster
    log.warning("job failed: its server is lost", job_id=job.id, server=job.server_id)
