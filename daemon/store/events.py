"""What happened, in the order in which it was committed.

An event holds its object as it was then, so that a stream which begins anew in the past tells the
same as one that was there. Progress is no event: it is read from the job.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, insert, or_, select
from sqlalchemy.sql.elements import ColumnElement

from daemon.model import Container, Job, Json
from daemon.store import rows
from daemon.store.database import Tx
from daemon.store.listen import announce
from daemon.store.schema import containers, events
from daemon.views import container_event_view, job_view

KEPT = timedelta(hours=24)
"""For how long a stream can begin anew where it was."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to an object of a user; ids grow and are never given again."""

    id: int
    at: datetime
    kind: str  # job | container
    container_id: str | None
    job_id: str | None
    user_id: str | None
    data: Json


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose events, and of what: those that match every field that is not None. With `job_id`
    those of the job, and of the container `container_id` if that is given too."""

    user_id: str | None = None
    job_id: str | None = None
    container_id: str | None = None


EVERYTHING = Scope()


async def add_job(tx: Tx, job: Job, *, at: datetime) -> None:
    """Note what became of a job, in the transaction that makes it true."""
    ids = {"container_id": job.container_id, "job_id": job.id, "user_id": job.user_id}
    await _add(tx, "job", job_view(job), at=at, **ids)


async def add_container(
    tx: Tx, container: Container, *, at: datetime, deleted: bool = False
) -> None:
    """Note what became of a container, in the transaction that makes it true."""
    data = container_event_view(container, deleted=deleted)
    ids = {"container_id": container.id, "user_id": container.owner_id}
    await _add(tx, "container", data, at=at, **ids)


async def since(tx: Tx, after_id: int, limit: int, scope: Scope = EVERYTHING) -> list[Event]:
    """The first `limit` events in the scope after this id, oldest first."""
    wanted = select(events).where(events.c.id > after_id, *_within(scope))
    return await rows.every(tx, Event, wanted.order_by(events.c.id).limit(limit))


async def newest_id(tx: Tx) -> int:
    """The id of the last event of all; 0 where there was none yet."""
    found: int | None = (await tx.execute(select(func.max(events.c.id)))).scalar_one()
    return found or 0


async def containers_changed(tx: Tx, server_id: str, after_id: int) -> set[str]:
    """The containers of a server of which something was told after this event."""
    on_server = (containers.c.id == events.c.container_id) & (containers.c.server_id == server_id)
    wanted = select(events.c.container_id).join(containers, on_server)
    return set((await tx.execute(wanted.where(events.c.id > after_id))).scalars())


async def get(tx: Tx, event_id: int) -> Event | None:
    """The event with this id; None where it was forgotten, or never was."""
    return await rows.one(tx, Event, select(events).where(events.c.id == event_id))


async def purge(tx: Tx, at: datetime) -> int:
    """Forget the events from before `at`; how many they were."""
    return (await tx.execute(delete(events).where(events.c.at < at))).rowcount


async def _add(tx: Tx, kind: str, data: Json, **columns: object) -> None:
    await tx.execute(insert(events).values(kind=kind, data=data, **columns))
    await announce(tx)


def _within(scope: Scope) -> Collection[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if scope.user_id is not None:
        conditions.append(events.c.user_id == scope.user_id)
    if scope.job_id is not None:
        of_container = (events.c.kind == "container") & (
            events.c.container_id == scope.container_id
        )
        conditions.append(or_(events.c.job_id == scope.job_id, of_container))
    return conditions
