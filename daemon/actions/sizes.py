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
    for container in ours:
        path = generation_path(container.id, container.generation_id or "")
        dataset = forest.datasets.get(path)
        if dataset is None:
            continue
        sizes = {"referenced_bytes": dataset.referenced_bytes, "unique_bytes": dataset.used_bytes}
        if sizes != _known(container):
            async with db.write() as tx:
                await containers.change(tx, container.id, **sizes)
    snapshots = {snapshot.guid: snapshot for snapshot in forest.snapshots()}
    for entry in listed:
        found = snapshots.get(entry.guid)
        if found is None:
            continue
        sizes = {"referenced_bytes": found.referenced_bytes, "unique_bytes": found.unique_bytes}
        if sizes != _known(entry):
            async with db.write() as tx:
                await user_snapshots.change(tx, entry.container_id, entry.id, **sizes)


def _known(noted: Container | UserSnapshot) -> dict[str, int]:
    return {"referenced_bytes": noted.referenced_bytes, "unique_bytes": noted.unique_bytes}
