"""When containers' live filesystems changed, as far as it was noticed, and who asked for a look."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import insert, or_, select, update

from daemon.model import Container, LookRow
from daemon.store import containers, datasets, rows, schema
from daemon.store.database import Tx
from daemon.store.schema import looks
from transfer.model import Guid


async def get(tx: Tx, container_id: str) -> LookRow:
    """What is known of a container; nothing, where it was never noted."""
    wanted = select(looks).where(looks.c.container_id == container_id)
    return await rows.one(tx, LookRow, wanted) or LookRow(container_id)


async def every(tx: Tx, container_ids: Collection[str]) -> list[LookRow]:
    """What is known of each of these containers."""
    wanted = select(looks).where(looks.c.container_id.in_(container_ids))
    known = {row.container_id: row for row in await rows.every(tx, LookRow, wanted)}
    return [known.get(container_id) or LookRow(container_id) for container_id in container_ids]


async def ask(tx: Tx, container_id: str, at: datetime) -> None:
    """Ask the container's server to look at its live filesystem."""
    await _put(tx, container_id, {"asked_at": at})


async def answered(tx: Tx, container_id: str, at: datetime) -> None:
    """Note that a look that began at `at` has ended."""
    await _put(tx, container_id, {"looked_at": at})


async def asked_on(tx: Tx, server_id: str) -> list[Container]:
    """The containers of a server that are to be looked at."""
    table = schema.containers
    pending = or_(looks.c.looked_at.is_(None), looks.c.looked_at < looks.c.asked_at)
    wanted = (
        select(table)
        .join(looks, looks.c.container_id == table.c.id)
        .where(table.c.server_id == server_id, looks.c.asked_at.is_not(None), pending)
    )
    return await rows.every(tx, Container, wanted.order_by(looks.c.asked_at, table.c.id))


async def written(tx: Tx, container_id: str, at: datetime, snapshot: Guid | None = None) -> None:
    """Note that a container's live filesystem has changed, and was seen so at `at`.

    Where it is no copy, its record changed with it, and `snapshot` is kept as the state that the
    next look compares with.
    """
    await _put(tx, container_id, {"written_at": at})
    container = await containers.get(tx, container_id)
    if container is None or container.source_container_id is not None:
        return
    if container.updated_at < at:
        await containers.change(tx, container_id, updated_at=at)
    await datasets.change(tx, container.generation_id or "", settled_guid=snapshot)


async def _put(tx: Tx, container_id: str, columns: dict[str, object]) -> None:
    of_one = update(looks).where(looks.c.container_id == container_id)
    if (await tx.execute(of_one.values(**columns))).rowcount == 0:
        await tx.execute(insert(looks).values(container_id=container_id, **columns))
