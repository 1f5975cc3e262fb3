"""Servers: one row for each machine that runs a daemon."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, select

from daemon.model import Server
from daemon.store import rows
from daemon.store.database import Tx
from daemon.store.schema import servers
from transfer.model import Capacity

_BEAT = ("created_at", "last_heartbeat_at", "total_bytes", "used_bytes", "available_bytes")


async def put(tx: Tx, server: Server) -> None:
    """Add a server, or bring its row up to date; when it was made and what its heartbeat says
    stay as they are. Raises Conflict("server_name")."""
    columns = rows.dump(server)
    kept = {name: value for name, value in columns.items() if name not in _BEAT}
    if not await rows.change(tx, servers, server.id, kept):
        await rows.add(tx, servers, server)


async def get(tx: Tx, server_id: str) -> Server | None:
    """The server with this id."""
    return await rows.one(tx, Server, select(servers).where(servers.c.id == server_id))


async def every(tx: Tx) -> list[Server]:
    """All servers, newest first."""
    order = (servers.c.created_at.desc(), servers.c.id)
    return await rows.every(tx, Server, select(servers).order_by(*order))


async def beat(tx: Tx, server_id: str, capacity: Capacity, at: datetime) -> None:
    """Note that a server lives, and how full its storage is."""
    columns = {**rows.dump(capacity), "last_heartbeat_at": at}
    await rows.change(tx, servers, server_id, columns)


async def remove(tx: Tx, server_id: str) -> None:
    """Forget a server with its containers and everything that its storage held. Its jobs stay
    readable; those that are active must have been ended before."""
    await tx.execute(delete(servers).where(servers.c.id == server_id))
