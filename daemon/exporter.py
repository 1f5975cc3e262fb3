"""An exporter: a process that serves this server's storage to other servers, over ssh.

Several share the peer port (SO_REUSEPORT). Who may connect is in the catalogue; what they may ask
for follows from the job that each request names (DESIGN: rules that keep others out).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from dataclasses import dataclass

from daemon import children, keys, lines, locks
from daemon.config import Config
from daemon.errors import CatalogueError
from daemon.model import Container, DatasetRow, Job, JobState, JobType, now
from daemon.store import containers, datasets, images, jobs, servers, snapshots, user_snapshots
from daemon.store.database import Database, Tx
from daemon.traffic import Teller
from transfer.errors import PeerRefused, PeerUnreachable, SnapshotMissing, SourceChanged
from transfer.model import Forest, Guid
from transfer.peer.messages import (
    AskUnchanged,
    GetLineage,
    GetSize,
    GetTreeRoot,
    PeerRequest,
    Release,
    StreamRequest,
    TakeSnapshot,
)
from transfer.peer.refusals import Refusals
from transfer.peer.server import ServerSettings, serve
from transfer.storage import open_storage
from transfer.storage.base import Storage

PULLING = frozenset({JobType.COPY, JobType.SYNC})  # a container
BEGINNING = frozenset({JobType.CREATE, JobType.PRESPAWN})  # with an image
REACHES_MAX = 64  # that are remembered; each is of one job


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
    server = await serve(
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
    teller = Teller("out", lambda: server.traffic)
    async with asyncio.TaskGroup() as group:
        group.create_task(teller.keep_telling(lines.tell))
        async for _asked in lines.orders():  # whether it lives
            lines.tell({"alive": True})


@dataclass(frozen=True, slots=True)
class Reach:
    """What a job may have of the snapshots here: `read` are those whose content it may have,
    `known` those that it may be told of and hold, all that lie in the same datasets."""

    read: frozenset[Guid] = frozenset()
    known: frozenset[Guid] = frozenset()

    def of(self, reads: bool) -> frozenset[Guid]:
        """What a request may name."""
        return self.read if reads else self.known


_NOTHING = Reach()


class CatalogueGate:
    """Decides who may connect and what a request may have.

    Whether a job runs is asked of the catalogue for each request. What it reaches is looked at
    once, and again where it asks for more: a snapshot never changes, and what is taken off a list
    may be read on by who has begun.
    """

    def __init__(self, db: Database, storage: Storage, server_id: str) -> None:
        self._db = db
        self._storage = storage
        self._server_id = server_id
        self._refusals = Refusals()
        self._reaches: dict[str, Reach] = {}  # by job, the latest last

    async def key_of(self, peer_id: str) -> str | None:
        """The public key that the catalogue pins for a server; None for an unknown one."""
        async with self._db.read() as tx:
            server = await servers.get(tx, peer_id)
        return server.peer_key if server else None

    async def authorize(self, peer_id: str, request: PeerRequest) -> None:
        """Raises PeerRefused unless the request names a running copy or sync of that peer whose
        source is here, and asks only for what the source stands on, or one that needs an image
        that is here, and asks for that; PeerUnreachable, upon which the peer tries again, while
        the catalogue cannot be asked."""
        try:
            generations, named = await self._granted(peer_id, request.job_id)
        except CatalogueError as error:
            self._refusals.tell(peer_id, f"is turned away for now: {error.message}")
            raise PeerUnreachable("the catalogue is gone for now") from error
        if isinstance(request, TakeSnapshot | AskUnchanged):
            _may_take(request, generations)
        await self._check(request, [row.path for row in generations], named)

    async def _granted(self, peer_id: str, job_id: str) -> tuple[list[DatasetRow], set[Guid]]:
        """The generations of the job's source, and the snapshots that it may read by name."""
        async with self._db.read() as tx:
            job = await jobs.get(tx, job_id)
            if job is None or not _may_pull(job, peer_id):
                raise PeerRefused("no running job of this server reads from here", job=job_id)
            if job.type in BEGINNING:
                return [], {await self._image(tx, job)}
            source = await containers.get(tx, job.source_container_id or "")
            if source is None or source.server_id != self._server_id:
                raise PeerRefused("the job's source is not here", job=job.id)
            generations = [row for row in await datasets.of_container(tx, source.id) if row.ready]
            return generations, await _named(tx, source, job)

    async def _image(self, tx: Tx, job: Job) -> Guid:
        """The snapshot of the job's image: as the image says, and not the job."""
        image = await images.get(tx, str(job.params.get("image")))
        if image is None or image.guid is None or image.server_id != self._server_id:
            raise PeerRefused("the job's image is not here", job=job.id)
        return image.guid

    async def _check(self, request: PeerRequest, paths: list[str], named: set[Guid]) -> None:
        """The snapshots that the request names must lie in what these datasets and snapshots
        stand on, or have done so when the job asked before. Letting go of holds is exempt: a job
        can only release its own, of whatever is still there. What is gone is nobody's: the
        storage says so itself."""
        if isinstance(request, Release) or not request.guids:
            return
        reads = isinstance(request, StreamRequest | GetTreeRoot)
        if set(request.guids) <= self._reaches.get(request.job_id, _NOTHING).of(reads):
            return
        reach = await self._reach(paths, named)
        self._reaches.pop(request.job_id, None)
        self._reaches[request.job_id] = reach
        if len(self._reaches) > REACHES_MAX:
            del self._reaches[next(iter(self._reaches))]
        strange = set(request.guids) - reach.of(reads)
        if not strange:
            return
        everything = await self._storage.lineage(sorted(strange))
        if strange & {snapshot.guid for snapshot in everything.snapshots()}:
            raise PeerRefused("a snapshot is not the source's", snapshots=sorted(strange))
        if not isinstance(request, GetLineage | GetSize):  # these do without what is gone
            raise SnapshotMissing("a snapshot is gone", snapshots=sorted(strange))

    async def _reach(self, paths: list[str], named: set[Guid]) -> Reach:
        found = await self._storage.lineage(sorted(named), paths)
        own = [found.datasets[path] for path in paths if path in found.datasets]
        points = named.union(
            (snapshot.guid for dataset in own for snapshot in dataset.snapshots),
            (dataset.origin for dataset in own if dataset.origin is not None),
        )
        known = frozenset(point.guid for dataset in found for point in dataset.points)
        return Reach(frozenset(up_to(found, points)), known)


def up_to(forest: Forest, points: Iterable[Guid]) -> set[Guid]:
    """The lineages of all these snapshots, with what has left a bookmark of it."""
    index = {snapshot.guid: snapshot for snapshot in forest.snapshots()}
    newest: dict[str, int] = {}
    for point in points:
        at: Guid | None = point
        while at is not None and (snapshot := index.get(at)) is not None:
            known = newest.get(snapshot.dataset)
            newest[snapshot.dataset] = max(snapshot.order, known or 0)
            # Whoever came by here before has gone on to the root.
            at = forest.datasets[snapshot.dataset].origin if known is None else None
    return {
        point.guid
        for dataset in forest
        for point in dataset.points
        if point.order <= newest.get(dataset.path, -1)
    }


async def _named(tx: Tx, source: Container, job: Job) -> set[Guid]:
    """What the catalogue has of a container's snapshots, wherever they lie by now; also what is
    off its list, but which a job may still read that has begun; and what this job names."""
    taken = await snapshots.guids(tx, source.server_id, source.id)
    given = job.params.get("guid")
    also = {given} if isinstance(given, str) else set()
    return taken | await user_snapshots.guids(tx, source.id) | also


def _may_take(request: TakeSnapshot | AskUnchanged, generations: list[DatasetRow]) -> None:
    """Raises PeerRefused unless the dataset is the source's, and SourceChanged where it was live
    when the peer looked and is no longer: it is as good as a mirror by now."""
    row = next((row for row in generations if row.path == request.dataset), None)
    if row is None:
        raise PeerRefused("only a generation of the source is snapshotted", job=request.job_id)
    if row.retired:
        raise SourceChanged("the source has another generation by now", job=request.job_id)


def _may_pull(job: Job, peer_id: str) -> bool:
    leased = job.lease_until is not None and job.lease_until > now()
    return (
        job.type in PULLING | BEGINNING
        and job.state is JobState.RUNNING
        and job.server_id == peer_id
        and leased
    )
