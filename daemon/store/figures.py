"""What operators watch of the catalogue: few rows, and one statement for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select

from daemon.store import rows
from daemon.store.database import Tx
from daemon.store.schema import containers, looks


@dataclass(frozen=True, slots=True)
class CopyRow:
    """A copy whose source is there: which state of it the copy has, and when the source's
    filesystem was last found to have changed."""

    container_id: str
    synced_at: datetime
    written_at: datetime


async def copies(tx: Tx, server_id: str) -> list[CopyRow]:
    """A server's copies that have ever had a state of their source, and still have the source."""
    source = containers.alias()
    wanted = (
        select(
            containers.c.id.label("container_id"),
            containers.c.last_synced_at.label("synced_at"),
            func.coalesce(looks.c.written_at, source.c.updated_at).label("written_at"),
        )
        .join(source, source.c.id == containers.c.source_container_id)
        .outerjoin(looks, looks.c.container_id == source.c.id)
        .where(containers.c.server_id == server_id, containers.c.last_synced_at.is_not(None))
    )
    return await rows.every(tx, CopyRow, wanted.order_by(containers.c.id))
