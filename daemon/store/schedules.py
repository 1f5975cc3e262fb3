"""When the syncs of containers with a schedule begin next."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, func, select

from daemon.model import ScheduleRow
from daemon.store import rows
from daemon.store.database import Tx
from daemon.store.schema import containers, schedules


async def put(tx: Tx, container_id: str, next_sync_at: datetime | None) -> None:
    """Note a container's next sync; None for no more."""
    await tx.execute(delete(schedules).where(schedules.c.container_id == container_id))
    if next_sync_at is not None:
        await rows.add(tx, schedules, ScheduleRow(container_id, next_sync_at))


async def get(tx: Tx, container_id: str) -> ScheduleRow | None:
    """A container's next sync."""
    wanted = select(schedules).where(schedules.c.container_id == container_id)
    return await rows.one(tx, ScheduleRow, wanted)


async def due(tx: Tx, server_id: str, at: datetime) -> list[ScheduleRow]:
    """What is to begin by now on a server, the oldest first."""
    wanted = select(schedules).join(containers).where(containers.c.server_id == server_id)
    late = wanted.where(schedules.c.next_sync_at <= at)
    order = (schedules.c.next_sync_at, schedules.c.container_id)
    return await rows.every(tx, ScheduleRow, late.order_by(*order))


async def next_after(tx: Tx, server_id: str, at: datetime) -> datetime | None:
    """When the next one begins on a server that begins after this moment."""
    soonest = select(func.min(schedules.c.next_sync_at)).select_from(schedules.join(containers))
    of_server = soonest.where(containers.c.server_id == server_id, schedules.c.next_sync_at > at)
    found: datetime | None = (await tx.execute(of_server)).scalar_one()
    return found
