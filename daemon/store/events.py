"""What happened, in the order in which it was committed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, insert, select

from daemon.model import Json
from daemon.store import rows
from daemon.store.database import Tx
from daemon.store.schema import events


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job or a container; ids grow and are never given again."""

    id: int
    at: datetime
    kind: str  # job | container
    container_id: str | None
    job_id: str | None
    data: Json


async def add(
    tx: Tx, kind: str, container_id: str | None, job_id: str | None, data: Json, *, at: datetime
) -> None:
    """Note an event in the transaction that makes it true."""
    await tx.execute(
        insert(events).values(at=at, kind=kind, container_id=container_id, job_id=job_id, data=data)
    )


async def since(tx: Tx, after_id: int, limit: int) -> list[Event]:
    """The first `limit` events after this id, oldest first."""
    wanted = select(events).where(events.c.id > after_id).order_by(events.c.id).limit(limit)
    return await rows.every(tx, Event, wanted)


async def purge(tx: Tx, at: datetime) -> int:
    """Forget the events from before `at`; how many they were."""
    return (await tx.execute(delete(events).where(events.c.at < at))).rowcount
