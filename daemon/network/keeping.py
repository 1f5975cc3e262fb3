"""The keeper's part: rules that are changed through any server take effect while containers run.

The API touches no network. Each change of a container is an event in the catalogue; who reads the
events after the last one that it has seen misses none.
"""

from __future__ import annotations

import asyncio
import time

from daemon import logs
from daemon.errors import CatalogueError
from daemon.network.network import Network
from daemon.store import containers, events
from daemon.store.database import Database, Tx
from transfer.errors import TransferError

LOOK_SECONDS = 0.5
CHECK_SECONDS = 5.0
"""Between two looks at whether all tables are there."""

log = logs.get(__name__)


async def keep_applied(db: Database, network: Network, server_id: str) -> None:
    """Applies all rules, and from then on those that change, and those that somebody has flushed.
    What cannot be applied is tried again at each look."""
    seen: int | None = None
    check_at = 0.0
    pending: set[str] = set()
    while True:
        try:
            async with db.read() as tx:
                changed = await _changed(tx, server_id, seen)
                seen = await events.newest_id(tx)
            pending |= changed
            if time.monotonic() >= check_at:
                pending |= await network.bare()
                check_at = time.monotonic() + CHECK_SECONDS
        except (CatalogueError, TransferError) as error:
            log.error("cannot look for rules that changed", reason=error.message)
        for container_id in sorted(pending):
            if await _applied(network, container_id):
                pending.discard(container_id)
        await asyncio.sleep(LOOK_SECONDS)


async def _applied(network: Network, container_id: str) -> bool:
    """Whether it could be done; what is wrong with one container keeps no other from its rules."""
    try:
        await network.apply(container_id)
    except (CatalogueError, TransferError, OSError) as error:
        log.error("rules not applied", container_id=container_id, reason=str(error))
        return False
    return True


async def _changed(tx: Tx, server_id: str, seen: int | None) -> set[str]:
    if seen is None:
        return {one.id for one in await containers.on_server(tx, server_id)}
    return await events.containers_changed(tx, server_id, seen)
