"""What containers' objects say of changes to filesystems, brought up to date by a GET.

The API touches no storage. It asks in the catalogue for a look; a process of the container's own
server takes it, and the answer comes back the same way.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from datetime import timedelta

from daemon import logs
from daemon.api.access import is_online
from daemon.api.deps import Deps
from daemon.errors import CatalogueError
from daemon.model import Container, LookRow, now
from daemon.store import containers, looks, servers
from daemon.store.database import Tx

WAIT_SECONDS = 3.0
POLL_SECONDS = 0.1

log = logs.get(__name__)


async def refresh(deps: Deps, shown: Collection[Container]) -> None:
    """Has those looked at that have copies, and the sources of those that are copies; each at
    most once in `sweep_seconds`. Waits a little for all of them together: what takes longer is
    for the next GET to show.

    A catalogue that takes no writes does not keep a GET from answering.
    """
    async with deps.db.read() as tx:
        wanted = await _wanted(deps, tx, shown)
    due = [row.container_id for row in wanted if _is_due(deps, row)]
    if due:
        try:
            async with deps.db.write() as tx:
                for container_id in due:
                    await looks.ask(tx, container_id, now())
        except CatalogueError as error:
            log.warning("nobody could be asked to look", reason=error.message)
            return
    pending = {row.container_id for row in wanted if row.pending}
    await _answered(deps, pending.union(due))


async def _wanted(deps: Deps, tx: Tx, shown: Collection[Container]) -> list[LookRow]:
    """The filesystems that matter, as far as somebody is there to look at them."""
    of_servers = {server.id: server for server in await servers.every(tx)}
    matter = [
        container.id
        for container in await containers.compared_with(tx, shown)
        if container.generation_id and is_online(deps.config, of_servers[container.server_id])
    ]
    return await looks.every(tx, matter)


def _is_due(deps: Deps, row: LookRow) -> bool:
    pause = timedelta(seconds=deps.config.timing.sweep_seconds)
    return row.asked_at is None or row.asked_at <= now() - pause


async def _answered(deps: Deps, container_ids: Collection[str]) -> None:
    """Returns when all looks have ended, or have been waited for long enough since they were
    asked for."""
    deadline = time.monotonic() + WAIT_SECONDS
    oldest = now() - timedelta(seconds=WAIT_SECONDS)
    while container_ids and time.monotonic() < deadline:
        async with deps.db.read() as tx:
            rows = await looks.every(tx, container_ids)
        if not any(row.pending and row.asked_at and row.asked_at > oldest for row in rows):
            return
        await asyncio.sleep(POLL_SECONDS)
