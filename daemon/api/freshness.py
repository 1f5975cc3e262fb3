"""What a container's object says of changes to filesystems, brought up to date by a GET.

The API touches no storage. It asks in the catalogue for a look; a process of the container's own
server takes it, and the answer comes back the same way.
"""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

from daemon import logs
from daemon.api.access import is_online
from daemon.api.routing import Plain
from daemon.errors import CatalogueError
from daemon.model import Container, LookRow, now
from daemon.store import containers, looks, servers
from daemon.store.database import Tx

WAIT_SECONDS = 3.0
POLL_SECONDS = 0.1

log = logs.get(__name__)


async def refresh(call: Plain, shown: Container) -> None:
    """Has the container looked at where it has copies, and its source where it is one; each at
    most once in `sweep_seconds`. Waits a little: what takes longer is for the next GET to show.

    A catalogue that takes no writes does not keep a GET from answering.
    """
    async with call.deps.db.read() as tx:
        wanted = await _wanted(call, tx, shown)
    due = [row for row in wanted if _is_due(call, row)]
    if due:
        try:
            async with call.deps.db.write() as tx:
                for row in due:
                    await looks.ask(tx, row.container_id, now())
        except CatalogueError as error:
            log.warning("nobody could be asked to look", reason=error.message)
            return
    await _answered(call, [row.container_id for row in wanted])


async def _wanted(call: Plain, tx: Tx, shown: Container) -> list[LookRow]:
    """The filesystems that matter, as far as somebody is there to look at them."""
    wanted = [shown] if await containers.copies_of(tx, shown.id) else []
    source = await containers.get(tx, shown.source_container_id or "")
    found = []
    for container in [*wanted, *([source] if source else [])]:
        server = await servers.get(tx, container.server_id)
        if container.generation_id and server and is_online(call.deps.config, server):
            found.append(await looks.get(tx, container.id))
    return found


def _is_due(call: Plain, row: LookRow) -> bool:
    pause = timedelta(seconds=call.deps.config.timing.sweep_seconds)
    return row.asked_at is None or row.asked_at <= now() - pause


async def _answered(call: Plain, container_ids: list[str]) -> None:
    """Returns when all looks have ended, or have been waited for long enough since they were
    asked for."""
    deadline = time.monotonic() + WAIT_SECONDS
    oldest = now() - timedelta(seconds=WAIT_SECONDS)
    while time.monotonic() < deadline:
        async with call.deps.db.read() as tx:
            rows = [await looks.get(tx, container_id) for container_id in container_ids]
        if not any(row.pending and row.asked_at and row.asked_at > oldest for row in rows):
            return
        await asyncio.sleep(POLL_SECONDS)
