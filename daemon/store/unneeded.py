"""Since when a server's collect has found each thing unneeded."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from datetime import datetime

from sqlalchemy import delete, insert, select

from daemon.store.database import Tx
from daemon.store.schema import unneeded


async def seen(
    tx: Tx, server_id: str, things: AbstractSet[str], now: datetime
) -> dict[str, datetime]:
    """Note that exactly these are unneeded on a server now, and tell since when each has been.

    What is needed again is forgotten, and begins anew when it is unneeded once more.
    """
    mine = unneeded.c.server_id == server_id
    known = await tx.execute(select(unneeded.c.thing, unneeded.c.since).where(mine))
    since: dict[str, datetime] = {row.thing: row.since for row in known}
    for thing in since.keys() - things:
        await tx.execute(delete(unneeded).where(mine, unneeded.c.thing == thing))
    fresh = sorted(things - since.keys())
    if fresh:
        rows = [{"server_id": server_id, "thing": thing, "since": now} for thing in fresh]
        await tx.execute(insert(unneeded), rows)
    return {thing: since.get(thing, now) for thing in things}
