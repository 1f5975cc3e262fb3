"""Prespawn: an image that is to be on every server comes to this one before it is asked for."""

from __future__ import annotations

from datetime import datetime, timedelta

from daemon.actions import bring
from daemon.actions.context import Context, kept_result
from daemon.actions.images import brought
from daemon.model import Job, JobState, JobType, Json, new_id
from daemon.model_images import Image, image_params
from daemon.states import ENDED
from daemon.store import datasets, image_uses, jobs
from daemon.store.database import Database, Tx
from transfer.storage.base import Storage

PAUSE = timedelta(minutes=10)
PAUSE_MAX = timedelta(days=1)


async def run(ctx: Context) -> Json | None:
    """Brings the image here, where the collector keeps it for as long as it is to be here."""
    async with brought(ctx) as come:
        result = bring.result(ctx, come)
        async with ctx.write() as tx:
            await ctx.commits(tx, result=result)
    return kept_result(ctx)


async def abandon(tx: Tx, job: Job, reason: str) -> None:
    """No container waits for it."""


async def queue_missing(db: Database, storage: Storage, server_id: str, at: datetime) -> list[Job]:
    """Queues a job for each image that is to be on this server and is not in its storage, and
    returns them: one at a time for an image, and after failures with growing pauses."""
    async with db.read() as tx:
        wanted = await image_uses.to_prespawn(tx, server_id)
        paths = {
            row.path
            for image in wanted
            for row in await datasets.of_generation(tx, server_id, image.id)
        }
    here = await storage.inspect(sorted(paths))
    missing = [image for image in wanted if here.find(image.guid or "") is None]
    if not missing:  # a writer's turn is not taken for nothing
        return []
    queued = []
    async with db.write() as tx:
        for image in missing:
            if _is_time(await jobs.about(tx, server_id, image.id), at):
                queued.append(await jobs.insert(tx, _job(image, server_id)))
    return queued


def _is_time(earlier: list[Job], at: datetime) -> bool:
    """Whether another try may begin, given the image's jobs on this server, newest first."""
    failures = 0
    for job in earlier:
        if job.state not in ENDED:
            return False
        if job.state is JobState.SUCCEEDED:
            break
        failures += 1
    if not failures:
        return True
    pause = min(PAUSE * (1 << min(failures - 1, 10)), PAUSE_MAX)
    return (earlier[0].finished_at or at) + pause <= at


def _job(image: Image, server_id: str) -> Job:
    return Job(
        id=new_id(),
        type=JobType.PRESPAWN,
        state=JobState.QUEUED,
        container_id=image.id,
        server_id=server_id,
        user_id=server_id,
        params=image_params(image),
    )
