"""Notices containers whose process has ended by itself, and says so in the catalogue.

A container is `running` there because a job has started it. What its process does later no job
sees: so the server's keeper looks at the records that monitors write, and now and then at every
container that should run. A container that a job is switching is left to that job.
"""

from __future__ import annotations

from collections.abc import Collection

from daemon import logs
from daemon.model import Container, Job, JobState, JobType, Status, new_id
from daemon.runtime.runc import End, Runc
from daemon.store import containers, jobs
from daemon.store.database import Database, Tx

log = logs.get(__name__)

_POWER = frozenset({JobType.START, JobType.STOP, JobType.RESTART, JobType.DELETE})
"""Jobs that start or stop what runs, for as long as an attempt runs."""

_SWITCHING = frozenset({JobType.CREATE, JobType.COPY, JobType.SYNC, JobType.RESTORE})
"""Jobs that do so, too; and between two attempts what a commit has said to be running may be
yet to start."""


async def note_all(db: Database, runtime: Runc, server_id: str) -> None:
    """Looks at every container of the server that should run."""
    async with db.read() as tx:
        ours = await containers.on_server(tx, server_id)
    should = [one.id for one in ours if one.status is Status.RUNNING and one.command is not None]
    await note(db, runtime, [one for one in should if not runtime.alive(one)])


async def note(db: Database, runtime: Runc, ended: Collection[str]) -> None:
    """Looks at these containers, of which it seems that they have ended."""
    for container_id in ended:
        async with db.read() as tx:
            container = await containers.get(tx, container_id)
            busy = await _is_switched(tx, container_id)
        if busy or runtime.alive(container_id):
            continue
        if container is None or container.status in (Status.STOPPED, Status.ERROR):
            runtime.noted(container_id)
        elif container.status is Status.RUNNING:
            await runtime.reap(container_id)
            await _note(db, runtime, container_id)


async def _note(db: Database, runtime: Runc, container_id: str) -> None:
    """All is asked again in the transaction: no job can begin before its commit, and what one has
    started before it is seen."""
    async with db.write() as tx:
        container = await containers.get(tx, container_id)
        if container is None or container.status is not Status.RUNNING:
            return
        if runtime.alive(container_id) or await _is_switched(tx, container_id):
            return
        end = runtime.end(container_id)
        await containers.change(
            tx,
            container_id,
            status=Status.STOPPED,
            exit_code=end.exit_code,
            status_reason=end.reason,
        )
        await _start_again(tx, container, end)
    log.info("container ended", container_id=container_id, code=end.exit_code, reason=end.reason)
    runtime.noted(container_id)


async def _is_switched(tx: Tx, container_id: str) -> bool:
    """Whether a job is under way that starts or stops the container."""
    job = await jobs.active_for(tx, container_id)
    if job is None:
        return False
    return job.type in _SWITCHING or (job.type in _POWER and job.state is JobState.RUNNING)


async def _start_again(tx: Tx, container: Container, end: End) -> None:
    """A server that has been started anew starts what ran on it; what has ended by itself stays
    so, and a job that waits goes first."""
    if not (end.anew and container.autostart) or await jobs.active_for(tx, container.id):
        return
    job = Job(
        id=new_id(),
        type=JobType.START,
        state=JobState.QUEUED,
        container_id=container.id,
        server_id=container.server_id,
        user_id=container.owner_id,
        params={"was": Status.STOPPED.value},
    )
    await jobs.insert(tx, job)
