"""Start, stop and restart."""

from __future__ import annotations

from daemon.actions.context import Context
from daemon.errors import JobError
from daemon.model import Container, Job, JobType, Json, Status, generation_path
from daemon.store import containers
from daemon.store.database import Tx


async def run(ctx: Context) -> Json | None:
    """Stops and starts as the job's type says; both are safe to repeat. Neither can be cancelled
    once it begins: what it has stopped would stay so."""
    container = await ctx.container()
    await ctx.step("switch")
    if ctx.job.type is not JobType.START:
        exit_code = await ctx.runtime.stop(container)
        await _become(ctx, Status.STOPPED, exit_code)
    if ctx.job.type is not JobType.STOP:
        await _start(ctx, container)
    return None


async def abandon(tx: Tx, job: Job, reason: str) -> None:
    """A start that fails ends in `stopped`, with the reason."""
    container = await containers.get(tx, job.container_id)
    starting = container is not None and container.status is Status.STOPPED
    if starting and job.type is not JobType.STOP:
        await containers.change(tx, job.container_id, status_reason=reason)


async def _start(ctx: Context, container: Container) -> None:
    if container.generation_id is None:
        raise JobError("START_FAILED", "the container has no live generation")
    path = generation_path(container.id, container.generation_id)
    rootfs = await ctx.storage.mount(path)
    await ctx.runtime.start(container, rootfs)
    await _become(ctx, Status.RUNNING, None)


async def _become(ctx: Context, status: Status, exit_code: int | None) -> None:
    async with ctx.write() as tx:
        container = await containers.get(tx, ctx.job.container_id)
        if container is not None and container.status is not Status.DELETING:
            await containers.change(
                tx, container.id, status=status, exit_code=exit_code, status_reason=None
            )
