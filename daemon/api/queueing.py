"""The one way in which an endpoint, or a schedule, makes a job."""

from __future__ import annotations

from typing import Any

from daemon.api.errors import RateLimited, StateConflict
from daemon.api.failures import note_queued
from daemon.api.routing import Call
from daemon.config import Config
from daemon.model import BESIDE, Container, Job, JobState, JobType, Json, new_id
from daemon.store import idempotency, jobs
from daemon.store.database import Tx

RETRY_SECONDS = 30


async def queue(
    call: Call[Any, Any], tx: Tx, kind: JobType, container: Container, params: Json
) -> Job:
    """What `add` makes, for an endpoint."""
    return await note(call, tx, await add(tx, call.deps.config, kind, container, params))


async def note(call: Call[Any, Any], tx: Tx, job: Job) -> Job:
    """The job, after it was put down as what the request has queued."""
    note_queued(job)
    if call.keyed is not None:
        await idempotency.change(tx, call.keyed.use, job_id=job.id)
    return job


async def add(tx: Tx, config: Config, kind: JobType, container: Container, params: Json) -> Job:
    """A queued job of the container, in the transaction that changes the container for it.

    It is the container's owner's job, whoever asked. Raises StateConflict where another one has
    not ended, unless this one is a delete, which waits for it, or runs beside it; RateLimited
    where the owner has too many.
    """
    patient = kind is JobType.DELETE or kind in BESIDE
    if not patient and await jobs.active_for(tx, container.id):
        raise StateConflict.of(container, kind)
    if await jobs.count_active(tx, container.owner_id) >= config.limits.jobs_per_user:
        raise RateLimited.after(RETRY_SECONDS, "Too many unfinished jobs")
    reads = kind in (JobType.COPY, JobType.SYNC)
    return await jobs.insert(
        tx,
        Job(
            id=new_id(),
            type=kind,
            state=JobState.QUEUED,
            container_id=container.id,
            server_id=container.server_id,
            user_id=container.owner_id,
            source_container_id=container.source_container_id if reads else None,
            params=params,
        ),
    )
