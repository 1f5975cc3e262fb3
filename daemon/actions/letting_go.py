"""What the collector lets go of in the catalogue before and after it destroys anything: bases
that nobody will use, holds of jobs that have ended, rows of what is gone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from daemon.actions import image_adding
from daemon.model import Base, Container, hold_tag
from daemon.store import bases as base_rows
from daemon.store import containers, datasets, holdings, jobs, servers, snapshots
from daemon.store.database import Database, Tx
from transfer.model import Forest, Guid
from transfer.storage.base import Storage


async def bases(
    db: Database, server_id: str, silent_since: datetime, *, bookmarks: bool
) -> frozenset[Guid]:
    """Drops the bases that this server holds for a pair of servers of which neither has a copy
    of the source any more, or for a peer that was silent for too long.

    Where snapshots leave `bookmarks`, what is kept for a silent peer that pulls from here is not
    dropped: returned are the snapshots of which a bookmark is enough from now on.
    """
    silent: set[Guid] = set()
    needed: set[Guid] = set()
    async with db.write() as tx:
        for base in await base_rows.held_by(tx, server_id):
            source = await containers.get(tx, base.source_container_id)
            peer = await servers.get(tx, base.peer)
            if source is None or peer is None or not await _has_a_copy(tx, base, source):
                await base_rows.drop(tx, base.source_container_id, base.holder, base.peer)
            elif (peer.last_heartbeat_at or peer.created_at) >= silent_since:
                needed.add(base.guid)
            elif bookmarks and source.server_id == server_id:
                silent.add(base.guid)
            else:
                await base_rows.drop(tx, base.source_container_id, base.holder, base.peer)
    return frozenset(silent - needed)


async def _has_a_copy(tx: Tx, base: Base, source: Container) -> bool:
    """Whether one of the two servers has a copy that it pulls from the other."""
    copies = await containers.copies_of(tx, source.id)
    pullers = {base.holder, base.peer} - {source.server_id}
    return any(copy.server_id in pullers for copy in copies)


@dataclass(frozen=True)
class LeftOver:
    """What jobs that have ended, and commands that were killed, may have left on one server:
    `holders` are jobs that may have holds there; `datasets` that are not ready, by id and path;
    `snapshots` by id and guid, which is None where the snapshot was never noted as taken."""

    server_id: str
    holders: list[str]
    datasets: dict[str, str]
    snapshots: dict[str, Guid | None]


Leaving = tuple[str, str | None]
"""What a job that has ended left: a dataset's id and the job's, or the job's id where it is holds
that it left."""


async def leavings(db: Database, server_id: str) -> frozenset[Leaving]:
    """What goes without a grace time. Costs two short questions of the catalogue, however much
    there is."""
    async with db.read() as tx:
        half_made = await datasets.left_on(tx, server_id)
        holders = await holdings.left_on(tx, server_id)
    return frozenset(half_made | {(job_id, None) for job_id in holders})


async def left_over(db: Database, server_id: str, lock_dir: str) -> LeftOver:
    """Is read before the storage is: what a job makes in between, and then ends, must neither
    count as missing nor as let go of."""
    async with db.read() as tx:
        active = {job.id for job in await jobs.active(tx)}
        holders = await holdings.of_server(tx, server_id)
        known = await datasets.on_server(tx, server_id)
        taken = await snapshots.on_server(tx, server_id)
    adding = await image_adding.in_the_making(db, lock_dir, known)
    half_made = [one for one in known if not one.ready and one.job_id not in active]
    return LeftOver(
        server_id,
        [job_id for job_id in holders if job_id not in active],
        {row.id: row.path for row in half_made if row.id not in adding},
        {row.id: row.guid for row in taken if row.job_id not in active},
    )


async def holds(db: Database, storage: Storage, left: LeftOver, forest: Forest) -> bool:
    """Releases what jobs that have ended left held; says whether there were any. zfs-fuse cannot
    list the tags of a snapshot, so each tag is tried on each snapshot that is held at all."""
    held = [snapshot.guid for snapshot in forest.snapshots() if snapshot.holds]
    for job_id in left.holders:
        await storage.release(held, hold_tag(job_id))
        async with db.write() as tx:
            await holdings.drop(tx, job_id, left.server_id)
    return bool(left.holders)


async def rows(db: Database, left: LeftOver, forest: Forest) -> None:
    """Forgets datasets and snapshots that ended jobs had planned and that do not exist."""
    guids = {snapshot.guid for snapshot in forest.snapshots()}
    async with db.write() as tx:
        for dataset_id, path in left.datasets.items():
            if path not in forest.datasets:
                await datasets.delete(tx, dataset_id)
        for snapshot_id, guid in left.snapshots.items():
            if guid not in guids:
                await snapshots.delete(tx, snapshot_id)
