"""Carries out the schedules of a server's copies. A scheduled sync is what the copy's owner could
ask for, so it passes the API's own checks, and is refused for the same reasons."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from daemon import logs
from daemon.api.copies import begin_sync
from daemon.api.errors import AccountBanned, ApiError, RateLimited
from daemon.api.routing import Caller
from daemon.config import Config
from daemon.errors import CatalogueError
from daemon.model import Job, ScheduleRow, now
from daemon.schedule import next_sync
from daemon.store import accounts, containers, schedules
from daemon.store.database import Database, Tx

log = logs.get(__name__)


async def sync_in_time(db: Database, config: Config, wake: Callable[[], None]) -> None:
    """Has this server's copies synced when their schedules say so; for ever. What was missed while
    no daemon ran is made up for by one sync. A schedule whose time comes sooner than it was looked
    for, because it is new, is found within `sweep_seconds`."""
    while True:
        at = now()
        pause: float = config.timing.sweep_seconds
        try:
            if await sync_due(db, config, at):
                wake()
            async with db.read() as tx:
                soonest = await schedules.next_after(tx, config.server.id, at)
            if soonest is not None:
                pause = min(pause, (soonest - now()).total_seconds())
        except CatalogueError as error:
            log.error("scheduled syncs begin later", reason=error.message)
        await asyncio.sleep(pause)


async def sync_due(db: Database, config: Config, at: datetime) -> list[Job]:
    """Queues the syncs of this server's copies whose time has come by `at`, and returns them."""
    async with db.read() as tx:
        due = await schedules.due(tx, config.server.id, at)
    tried = [await _begin(db, config, row, at) for row in due]
    return [job for job in tried if job is not None]


async def _begin(db: Database, config: Config, row: ScheduleRow, at: datetime) -> Job | None:
    """The sync, queued in the transaction that moves the schedule on: there is never one without
    the other. None where it was skipped, which is one step of the schedule too; where it has to
    wait until its owner has fewer jobs; and where somebody was faster."""
    with logs.bind(container_id=row.container_id):
        try:
            async with db.write() as tx:
                owner_id = await _move_on(tx, row, at)
                if owner_id is None:
                    return None
                owner = await accounts.get_user(tx, owner_id)
                if owner is None or owner.banned:
                    raise AccountBanned
                caller = Caller(owner.id, is_admin=False)
                job = await begin_sync(tx, config, caller, row.container_id)
        except RateLimited as error:
            log.warning("scheduled sync waits", reason=error.message)
            return None
        except ApiError as error:
            async with db.write() as tx:
                await _move_on(tx, row, at)
            log.warning("scheduled sync skipped", code=error.code, reason=error.message)
            return None
        log.info("scheduled sync queued", job_id=job.id, due_at=row.next_sync_at.isoformat())
        return job


async def _move_on(tx: Tx, row: ScheduleRow, at: datetime) -> str | None:
    """Has the container's next sync begin at a time after `at`; the owner's id, or None where the
    schedule is no longer at `row`."""
    container = await containers.get(tx, row.container_id)
    if container is None or container.sync_schedule is None:
        return None
    if await schedules.get(tx, container.id) != row:
        return None
    text, since = container.sync_schedule, row.next_sync_at
    await schedules.put(tx, container.id, next_sync(text, container.id, since, at))
    return container.owner_id
