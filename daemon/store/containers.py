"""Containers' records."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import and_, exists, func, not_, or_, select, update
from sqlalchemy import delete as delete_from

from daemon.model import Container, Status, now
from daemon.store import events, rows
from daemon.store.database import Tx
from daemon.store.schema import containers

_UNTOLD = frozenset({"referenced_bytes", "unique_bytes", "ssh_private_sealed"})
"""Columns that change all the time, or are nobody's business: no event tells of them."""


@dataclass(frozen=True, slots=True)
class ContainerFilter:
    """Which containers a list shows: those that match every field that is not None."""

    owner_id: str | None = None
    project_id: str | None = None
    server_id: str | None = None
    source_container_id: str | None = None
    status: Status | None = None


async def insert(tx: Tx, container: Container) -> None:
    """Add a container. Raises Conflict("container_name") or Conflict("ssh_key")."""
    await rows.add(tx, containers, container)
    await events.add_container(tx, container, at=now())


async def get(tx: Tx, container_id: str) -> Container | None:
    """The container with this id."""
    wanted = select(containers).where(containers.c.id == container_id)
    return await rows.one(tx, Container, wanted)


async def some(tx: Tx, container_ids: Collection[str]) -> list[Container]:
    """Those of these containers that are there."""
    wanted = select(containers).where(containers.c.id.in_(container_ids))
    return await rows.every(tx, Container, wanted)


async def change(tx: Tx, container_id: str, **columns: object) -> bool:
    """Set columns of a container; False where it is gone. Raises Conflict as `insert` does."""
    of_one = update(containers).where(containers.c.id == container_id)
    changed = await rows.one(tx, Container, of_one.values(**columns).returning(containers))
    if changed is None:
        return False
    if not columns.keys() <= _UNTOLD:
        await events.add_container(tx, changed, at=now())
    return True


async def delete(tx: Tx, container_id: str) -> None:
    """Forget a container."""
    of_one = delete_from(containers).where(containers.c.id == container_id)
    gone = await rows.one(tx, Container, of_one.returning(containers))
    if gone is not None:
        await events.add_container(tx, gone, at=now(), deleted=True)


async def page(
    tx: Tx, wanted: ContainerFilter, page: int, limit: int
) -> tuple[list[Container], int]:
    """One page of the containers that are wanted, and how many there are."""
    return await rows.page(
        tx, Container, containers, rows.matches(containers, wanted), rows.cut(page, limit)
    )


async def of_owner(tx: Tx, owner_id: str | None) -> list[Container]:
    """All containers of a user; everybody's for None."""
    wanted = select(containers).where(*rows.matches(containers, ContainerFilter(owner_id)))
    return await rows.every(tx, Container, wanted.order_by(containers.c.id))


async def live_on(tx: Tx, server_id: str) -> int:
    """How many places of `max_containers` are taken on a server: a container in `error` that
    never had a filesystem takes none."""
    empty = and_(containers.c.status == Status.ERROR, containers.c.generation_id.is_(None))
    taken = select(func.count()).where(containers.c.server_id == server_id, not_(empty))
    return (await tx.execute(taken)).scalar_one()


async def names(tx: Tx, project_id: str) -> set[str]:
    """The names that are taken in a project."""
    taken = select(containers.c.name).where(containers.c.project_id == project_id)
    return set((await tx.execute(taken)).scalars())


async def copies_of(tx: Tx, source_id: str) -> list[Container]:
    """The containers that were copied from this one."""
    wanted = select(containers).where(containers.c.source_container_id == source_id)
    return await rows.every(tx, Container, wanted.order_by(containers.c.id))


async def compared_with(tx: Tx, shown: Collection[Container]) -> list[Container]:
    """The containers whose live filesystem says how copies stand, where these are shown: those of
    them that have copies, and the sources of those that are copies."""
    other = containers.alias()
    has_copies = exists().where(other.c.source_container_id == containers.c.id)
    is_shown = and_(containers.c.id.in_([one.id for one in shown]), has_copies)
    is_source = containers.c.id.in_([one.source_container_id for one in shown])
    wanted = select(containers).where(or_(is_shown, is_source))
    return await rows.every(tx, Container, wanted.order_by(containers.c.id))


async def on_server(tx: Tx, server_id: str) -> list[Container]:
    """The containers of a server."""
    wanted = select(containers).where(containers.c.server_id == server_id)
    return await rows.every(tx, Container, wanted.order_by(containers.c.id))


async def compared(tx: Tx, server_id: str) -> list[Container]:
    """The containers of a server whose live filesystem is compared with an earlier state: copies
    whose source is still there, by syncs; what is no copy but has some, by looks."""
    other = containers.alias()
    a_source = containers.c.id.in_(select(other.c.source_container_id))
    synced = containers.c.source_container_id.in_(select(other.c.id))
    looked_at = and_(containers.c.source_container_id.is_(None), a_source)
    wanted = select(containers).where(containers.c.server_id == server_id, or_(synced, looked_at))
    return await rows.every(tx, Container, wanted.order_by(containers.c.id))
