"""Internal snapshots: a row is written before its snapshot is taken."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from sqlalchemy import delete as delete_from
from sqlalchemy import select

from daemon.model import Container, SnapshotRow
from daemon.store import rows
from daemon.store.database import Tx
from daemon.store.schema import snapshots
from daemon.store.sequence import next_sequence
from transfer.model import Guid


async def insert(tx: Tx, snapshot: SnapshotRow) -> SnapshotRow:
    """Add a snapshot that is to be taken; returns it with its sequence."""
    placed = replace(snapshot, sequence=await next_sequence(tx))
    await rows.add(tx, snapshots, placed)
    return placed


async def was_there(tx: Tx, snapshot: SnapshotRow) -> None:
    """Add a snapshot that has no row yet, because nobody asked for it: a state that was settled or
    looked at. It comes before all that were asked for."""
    if await get(tx, snapshot.id) is None:
        await rows.add(tx, snapshots, replace(snapshot, sequence=0))


async def get(tx: Tx, snapshot_id: str) -> SnapshotRow | None:
    """The snapshot with this id."""
    wanted = select(snapshots).where(snapshots.c.id == snapshot_id)
    return await rows.one(tx, SnapshotRow, wanted)


async def taken(tx: Tx, snapshot_id: str, guid: Guid, at: datetime) -> bool:
    """Note that a snapshot exists now; False where its row is gone."""
    return await rows.change(tx, snapshots, snapshot_id, {"guid": guid, "taken_at": at})


async def usable_anchor(
    tx: Tx, container_id: str, generation_id: str, after_sequence: int
) -> SnapshotRow | None:
    """The newest snapshot of a container's generation that was begun after a job was made."""
    wanted = (
        select(snapshots)
        .where(
            snapshots.c.container_id == container_id,
            snapshots.c.generation_id == generation_id,
            snapshots.c.sequence > after_sequence,
            snapshots.c.guid.is_not(None),
        )
        .order_by(snapshots.c.sequence.desc())
        .limit(1)
    )
    return await rows.one(tx, SnapshotRow, wanted)


async def with_guid(tx: Tx, container: Container, guid: Guid) -> SnapshotRow | None:
    """The row under whose id a snapshot was taken of a container's live generation. Later rows may
    name the same snapshot: of anchors before which nothing had been written since."""
    wanted = select(snapshots).where(
        snapshots.c.container_id == container.id,
        snapshots.c.generation_id == container.generation_id,
        snapshots.c.guid == guid,
    )
    return await rows.one(tx, SnapshotRow, wanted.order_by(snapshots.c.sequence).limit(1))


async def on_server(tx: Tx, server_id: str) -> list[SnapshotRow]:
    """The snapshots that were taken on a server, oldest first."""
    wanted = select(snapshots).where(snapshots.c.server_id == server_id)
    return await rows.every(tx, SnapshotRow, wanted.order_by(snapshots.c.sequence))


async def guids(tx: Tx, server_id: str, container_id: str) -> set[Guid]:
    """The guids of the snapshots that were taken of a container on a server."""
    wanted = select(snapshots.c.guid).where(
        snapshots.c.server_id == server_id,
        snapshots.c.container_id == container_id,
        snapshots.c.guid.is_not(None),
    )
    return set((await tx.execute(wanted)).scalars())


async def delete(tx: Tx, snapshot_id: str) -> None:
    """Forget a snapshot, after it was destroyed."""
    await tx.execute(delete_from(snapshots).where(snapshots.c.id == snapshot_id))
