"""What the collector lets go of in the catalogue before and after it destroys anything: bases
that nobody will use, holds of jobs that have ended, rows of what is gone."""

from __future__ import annotations

from datetime import datetime

from daemon.model import Base, hold_tag
from daemon.states import ENDED
from daemon.store import bases as base_rows
from daemon.store import containers, datasets, holdings, jobs, servers, snapshots
from daemon.store.database import Database, Tx
from transfer.model import Forest
from transfer.storage.base import Storage


async def bases(db: Database, server_id: str, silent_since: datetime) -> None:
    """Drops the bases that this server holds for a pair of servers of which neither has a copy
    of the source any more, or for a peer that was silent for too long."""
    async with db.write() as tx:
        for base in await base_rows.held_by(tx, server_id):
            if not await _of_use(tx, base, silent_since):
                await base_rows.drop(tx, base.source_container_id, base.holder, base.peer)


async def _of_use(tx: Tx, base: Base, silent_since: datetime) -> bool:
    peer = await servers.get(tx, base.peer)
    if peer is None or (peer.last_heartbeat_at or peer.created_at) < silent_since:
        return False
    source = await containers.get(tx, base.source_container_id)
    copies = await containers.copies_of(tx, base.source_container_id)
    pullers = {base.holder, base.peer} - {source.server_id if source else ""}
    return source is not None and any(copy.server_id in pullers for copy in copies)


async def holds(db: Database, storage: Storage, server_id: str, forest: Forest) -> None:
    """Releases what jobs that have ended left held. zfs-fuse cannot list the tags of a snapshot,
    so each tag is tried on each snapshot that is held at all."""
    held = [snapshot.guid for snapshot in forest.snapshots() if snapshot.holds]
    async with db.read() as tx:
        job_ids = await holdings.of_server(tx, server_id)
        found = {job_id: await jobs.get(tx, job_id) for job_id in job_ids}
    for job_id, job in found.items():
        if job is None or job.state in ENDED:
            await storage.release(held, hold_tag(job_id))
            async with db.write() as tx:
                await holdings.drop(tx, job_id, server_id)


async def rows(db: Database, server_id: str, forest: Forest) -> None:
    """Forgets datasets and snapshots that ended jobs had planned and that do not exist."""
    guids = {snapshot.guid for snapshot in forest.snapshots()}
    async with db.write() as tx:
        active = {job.id for job in await jobs.active(tx)}
        for row in await datasets.on_server(tx, server_id):
            if not row.ready and row.path not in forest.datasets and row.job_id not in active:
                await datasets.delete(tx, row.id)
        for snapshot in await snapshots.on_server(tx, server_id):
            if snapshot.job_id not in active and snapshot.guid not in guids:
                await snapshots.delete(tx, snapshot.id)
