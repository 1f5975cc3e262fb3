"""Bases: the snapshots that servers keep for increments between them."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import and_, insert, or_, select
from sqlalchemy import delete as delete_from

from daemon.model import Base
from daemon.store import rows
from daemon.store.database import Tx
from daemon.store.schema import bases


async def replace(
    tx: Tx, source_container_id: str, one: str, other: str, fresh: Collection[Base]
) -> None:
    """Keep exactly these between two servers for the copies of one source: what its lineage no
    longer passes is let go."""
    await drop(tx, source_container_id, one, other)
    for base in fresh:
        await tx.execute(insert(bases).values(**rows.dump(base)))


async def held_by(tx: Tx, holder: str) -> list[Base]:
    """What a server keeps, for all its peers."""
    return await rows.every(tx, Base, select(bases).where(bases.c.holder == holder))


async def drop(tx: Tx, source_container_id: str, one: str, other: str) -> None:
    """Keep nothing of a source's lineage any more between two servers."""
    pair = or_(
        and_(bases.c.holder == one, bases.c.peer == other),
        and_(bases.c.holder == other, bases.c.peer == one),
    )
    of_source = bases.c.source_container_id == source_container_id
    await tx.execute(delete_from(bases).where(of_source, pair))


async def drop_source(tx: Tx, source_container_id: str) -> None:
    """Keep nothing of a source's lineage any more, anywhere."""
    await tx.execute(delete_from(bases).where(bases.c.source_container_id == source_container_id))
