"""What containers and their snapshots take, noted in the catalogue as the API shows it."""

from __future__ import annotations

from collections.abc import Iterable

from daemon.model import Container, UserSnapshot, generation_path
from daemon.store import containers, user_snapshots
from daemon.store.database import Database
from transfer.model import Forest

PER_TRANSACTION = 100
"""So many are noted at once: each transaction waits for the disk, and others wait for its end."""

Sizes = dict[str, int]


async def note(db: Database, server_id: str, forest: Forest) -> None:
    """Writes down the sizes that differ from what the catalogue has."""
    async with db.read() as tx:
        ours = await containers.on_server(tx, server_id)
        listed = await user_snapshots.of_server(tx, server_id)
    changed: list[tuple[Container | UserSnapshot, Sizes]] = [
        *_of_containers(ours, forest),
        *_of_snapshots(listed, forest),
    ]
    for start in range(0, len(changed), PER_TRANSACTION):
        async with db.write() as tx:
            for noted, sizes in changed[start : start + PER_TRANSACTION]:
                if isinstance(noted, Container):
                    await containers.change(tx, noted.id, **sizes)
                else:
                    await user_snapshots.change(tx, noted.container_id, noted.id, **sizes)


def _of_containers(ours: list[Container], forest: Forest) -> Iterable[tuple[Container, Sizes]]:
    for container in ours:
        path = generation_path(container.id, container.generation_id or "")
        dataset = forest.datasets.get(path)
        if dataset is not None:
            sizes = _sizes(dataset.referenced_bytes, dataset.used_bytes)
            if sizes != _known(container):
                yield container, sizes


def _of_snapshots(
    listed: list[UserSnapshot], forest: Forest
) -> Iterable[tuple[UserSnapshot, Sizes]]:
    snapshots = {snapshot.guid: snapshot for snapshot in forest.snapshots()}
    for entry in listed:
        found = snapshots.get(entry.guid)
        if found is not None:
            sizes = _sizes(found.referenced_bytes, found.unique_bytes)
            if sizes != _known(entry):
                yield entry, sizes


def _sizes(referenced_bytes: int, unique_bytes: int) -> Sizes:
    return {"referenced_bytes": referenced_bytes, "unique_bytes": unique_bytes}


def _known(noted: Container | UserSnapshot) -> Sizes:
    return _sizes(noted.referenced_bytes, noted.unique_bytes)
