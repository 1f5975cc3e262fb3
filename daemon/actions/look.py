"""Looks at live filesystems, for those who asked whether they have changed."""

from __future__ import annotations

from daemon import logs
from daemon.model import Container, generation_path, new_id, now, snapshot_name
from daemon.store import containers, looks
from daemon.store.database import Database
from transfer.errors import TransferError
from transfer.storage.base import Look, Storage

log = logs.get(__name__)


async def at_all_asked(db: Database, storage: Storage, server_id: str) -> None:
    """Looks at each of a server's containers for which somebody has asked. One that cannot be
    looked at is taken for unchanged: who asks again gets another look."""
    async with db.read() as tx:
        asked = await looks.asked_on(tx, server_id)
    for container in asked:
        # What is written from here on may be in or not: it is not lost, the next look finds it.
        at = now()
        found = await _look(storage, container)
        async with db.write() as tx:
            current = await containers.get(tx, container.id)
            if current is None:
                continue
            await looks.answered(tx, container.id, at)
            if found.changed and current.generation_id == container.generation_id:
                await looks.written(tx, container.id, at, found.snapshot)


async def _look(storage: Storage, container: Container) -> Look:
    if container.generation_id is None:
        return Look(changed=False)
    path = generation_path(container.id, container.generation_id)
    try:
        return await storage.look(path, snapshot_name(new_id()))
    except TransferError as error:
        log.warning("cannot look", container_id=container.id, reason=error.message)
        return Look(changed=False)
