"""What containers and their snapshots take, noted in the catalogue as the API shows it."""

from __future__ import annotations

from daemon.model import Container, UserSnapshot, generation_path
from daemon.store import containers, user_snapshots
from daemon.store.database import Database
from transfer.model import Forest


async def note(db: Database, server_id: str, forest: Forest) -> None:
    """Writes down the sizes that differ from what the catalogue has."""
    async with db.read() as tx:
        ours = await containers.on_server(tx, server_id)
        listed = await user_snapshots.of_server(tx, server_id)
    await _note_containers(db, ours, forest)
    await _note_snapshots(db, listed, forest)


async def _note_containers(db: Database, ours: list[Container], forest: Forest) -> None:
    for container in ours:
        path = generation_path(container.id, container.generation_id or "")
        dataset = forest.datasets.get(path)
        if dataset is None:
            continue
        sizes = (dataset.referenced_bytes, dataset.used_bytes)
        if sizes != (container.referenced_bytes, container.unique_bytes):
            async with db.write() as tx:
                await containers.change(
                    tx, container.id, referenced_bytes=sizes[0], unique_bytes=sizes[1]
                )


async def _note_snapshots(db: Database, listed: list[UserSnapshot], forest: Forest) -> None:
    for entry in listed:
        found = forest.find(entry.guid)
        if found is None:
            continue
        sizes = (found.referenced_bytes, found.unique_bytes)
        if sizes != (entry.referenced_bytes, entry.unique_bytes):
            async with db.write() as tx:
                await user_snapshots.change(
                    tx,
                    entry.container_id,
                    entry.id,
                    referenced_bytes=sizes[0],
                    unique_bytes=sizes[1],
                )
