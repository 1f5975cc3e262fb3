"""Leases: one job at a time ships a generation to a server."""

from __future__ import annotations

from sqlalchemy import and_, delete, insert, or_, select

from daemon.model import Job, JobState
from daemon.store.database import Tx
from daemon.store.schema import jobs, leases


async def take(tx: Tx, server_id: str, generation_id: str, job: Job) -> bool:
    """Make this attempt of a job the shipper; True also where it is already.

    A lease is worth nothing once its job has ended or runs in another attempt, and is then taken
    over. False while another job's, or another attempt's of this job, is good.
    """
    lease = and_(leases.c.server_id == server_id, leases.c.generation_id == generation_id)
    good = select(leases.c.job_id).where(
        lease,
        jobs.c.id == leases.c.job_id,
        jobs.c.attempt == leases.c.attempt,
        jobs.c.state == JobState.RUNNING,
        or_(leases.c.job_id != job.id, leases.c.attempt != job.attempt),
    )
    if (await tx.execute(good)).first() is not None:
        return False
    await tx.execute(delete(leases).where(lease))
    await tx.execute(
        insert(leases).values(
            server_id=server_id, generation_id=generation_id, job_id=job.id, attempt=job.attempt
        )
    )
    return True


async def on_server(tx: Tx, server_id: str) -> frozenset[str]:
    """The generations that running jobs ship to a server now."""
    good = select(leases.c.generation_id).where(
        leases.c.server_id == server_id,
        jobs.c.id == leases.c.job_id,
        jobs.c.attempt == leases.c.attempt,
        jobs.c.state == JobState.RUNNING,
    )
    return frozenset((await tx.execute(good)).scalars())


async def drop(tx: Tx, server_id: str, generation_id: str, job: Job) -> None:
    """Give the lease back, where it is still this attempt's."""
    await tx.execute(
        delete(leases).where(
            leases.c.server_id == server_id,
            leases.c.generation_id == generation_id,
            leases.c.job_id == job.id,
            leases.c.attempt == job.attempt,
        )
    )
