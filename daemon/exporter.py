"""An exporter: a process that serves this server's storage to other servers, over ssh.

Several share the peer port (SO_REUSEPORT). Who may connect is in the catalogue; what they may ask
for follows from the job that each request names (DESIGN: rules that keep others out).
"""

from __future__ import annotations

import asyncio
import os

from daemon import children, keys, lines, locks, logs
from daemon.config import Config
from daemon.model import Container, Job, JobState, JobType, now
from daemon.store import containers, datasets, jobs, servers
from daemon.store.database import Database
from transfer.errors import DatasetMissing, PeerRefused, SnapshotMissing
from transfer.model import Forest
from transfer.peer.messages import PeerRequest, Release, TakeSnapshot
from transfer.peer.server import ServerSettings, serve
from transfer.storage import open_storage
from transfer.storage.base import Storage

PULLING = frozenset({JobType.COPY, JobType.SYNC})

log = logs.get(__name__)


def main(config: Config) -> int:
    """The process's life."""
    os.nice(children.DATA_PLANE_NICE)
    locks.share_children_lock(config.server.state_dir)
    asyncio.run(_export(config))
    return 0


async def _export(config: Config) -> None:
    db = Database(config.database.url)
    settings = config.storage
    storage = await open_storage(
        settings.backend, settings.root, settings.mount_root, config.server.state_dir
    )
    gate = CatalogueGate(db, storage, config.server.id)
    address = config.peer_listen
    await serve(
        address.host,
        address.port,
        host_key=keys.load_peer_key(config.peer_key_file).private_text,
        storage=storage,
        gate=gate,
        settings=ServerSettings(
            limit_bytes_per_second=config.transfer.bandwidth_limit_bytes_per_second,
            stall_seconds=config.transfer.stall_seconds,
        ),
    )
    lines.tell({"listening": True})
    async for _order in lines.orders():
        log.warning("an exporter takes no orders")


class CatalogueGate:
    """Decides who may connect and what a request may have."""

    def __init__(self, db: Database, storage: Storage, server_id: str) -> None:
        self._db = db
        self._storage = storage
        self._server_id = server_id

    async def key_of(self, peer_id: str) -> str | None:
        """The public key that the catalogue pins for a server; None for an unknown one."""
        async with self._db.read() as tx:
            server = await servers.get(tx, peer_id)
        return server.peer_key if server else None

    async def authorize(self, peer_id: str, request: PeerRequest) -> None:
        """Raises PeerRefused unless the request names a running copy or sync of that peer whose
        source is here, and asks only for what the source's generations stand on."""
        container = await self._container_of(peer_id, request.job_id)
        await self._check(container, request)

    async def _container_of(self, peer_id: str, job_id: str) -> Container:
        async with self._db.read() as tx:
            job = await jobs.get(tx, job_id)
            source = await containers.get(tx, job.source_container_id or "") if job else None
        if job is None or not _may_pull(job, peer_id):
            raise PeerRefused("no running job of this server reads from here", job=job_id)
        if source is None or source.server_id != self._server_id:
            raise PeerRefused("the job's source is not here", job=job_id)
        return source

    async def _check(self, container: Container, request: PeerRequest) -> None:
        """What the request names must lie in what the source's generations stand on. Letting go
        of holds is exempt: a job can only release its own, of whatever is still there."""
        if isinstance(request, Release):
            return
        own = await self._own_paths(container)
        if isinstance(request, TakeSnapshot) and request.path not in own:
            raise PeerRefused("only a generation of the source is snapshotted", path=request.path)
        reach = await self._reach(own)
        if request.path is not None and request.path not in reach.datasets:
            raise PeerRefused("the dataset is not the source's", dataset=request.path)
        known = {snapshot.guid for snapshot in reach.snapshots()}
        strange = set(request.guids) - known
        if not strange:
            return
        everything = await self._storage.forest()
        if any(everything.find(guid) for guid in strange):
            raise PeerRefused("a snapshot is not the source's", snapshots=sorted(strange))
        raise SnapshotMissing("a snapshot is gone", snapshots=sorted(strange))

    async def _own_paths(self, container: Container) -> list[str]:
        async with self._db.read() as tx:
            rows = await datasets.of_container(tx, container.id)
        return sorted(row.path for row in rows if row.server_id == self._server_id and row.ready)

    async def _reach(self, paths: list[str]) -> Forest:
        """Everything that the container's generations stand on."""
        found = Forest()
        for path in paths:
            if path in found.datasets:
                continue
            try:
                lineage = await self._storage.lineage(path)
            except DatasetMissing:
                continue  # a retired generation that was just collected
            found = Forest({**found.datasets, **lineage.datasets})
        return found


def _may_pull(job: Job, peer_id: str) -> bool:
    leased = job.lease_until is not None and job.lease_until > now()
    return (
        job.type in PULLING
        and job.state is JobState.RUNNING
        and job.server_id == peer_id
        and leased
    )
