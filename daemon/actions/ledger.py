"""What replication writes down in the catalogue, and where it waits its turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

from daemon.actions.context import Context
from daemon.errors import JobError
from daemon.model import Base, DatasetRow, Role, mirror_path, new_id
from daemon.store import datasets, leases
from daemon.store.database import Tx
from transfer.errors import SourceChanged
from transfer.model import Forest, Guid, Landing, Step

TURN_POLL_SECONDS = 0.2
TURN_WAIT_SECONDS_MAX = 86_400.0


class CatalogueLedger:
    """The Ledger of one job that pulls from another server."""

    def __init__(self, ctx: Context, source_server_id: str) -> None:
        self._ctx = ctx
        self._source_server_id = source_server_id
        # Of each dataset of the source: its own generation, and all of which it has snapshots.
        self._generations: dict[str, str] = {}
        self._layers: dict[str, set[str]] = {}
        self._trimmed = False

    async def mirrors(self, source: Forest) -> dict[str, tuple[str, ...]]:
        """Datasets on this server by the source's dataset of whose generations they have some."""
        async with self._ctx.db.read() as tx:
            return {path: await self._mirrors(tx, path) for path in source.datasets}

    async def _mirrors(self, tx: Tx, path: str) -> tuple[str, ...]:
        row = await datasets.by_path(tx, self._source_server_id, path)
        if row is not None:
            self._generations[path] = row.generation_id
            self._layers[path] = await datasets.generations(tx, row)
        elif path not in self._generations:
            raise SourceChanged("the source's lineage has changed", path=path)
        found: dict[str, DatasetRow] = {}
        for generation_id in self._layers[path]:
            for mirror in await datasets.of_generation(tx, self._ctx.server_id, generation_id):
                found[mirror.path] = mirror
        return tuple(sorted(found, key=lambda at: (found[at].created_at, found[at].id)))

    async def new_mirror(self, step: Step, here: Forest) -> str:
        """The path of a mirror that this job has begun for the generation, or of a new one."""
        generation_id = self._generations[step.source]
        async with self._ctx.write() as tx:
            rows = await datasets.of_generation(tx, self._ctx.server_id, generation_id)
            for row in rows:
                ours = row.job_id == self._ctx.job.id and row.role is Role.MIRROR
                begun = ours and row.generation_id == generation_id
                dataset = here.datasets.get(row.path)
                if begun and not row.ready and (dataset is None or not dataset.snapshots):
                    return row.path
            mirror_id = new_id()
            fresh = DatasetRow(
                id=mirror_id,
                server_id=self._ctx.server_id,
                role=Role.MIRROR,
                generation_id=generation_id,
                path=mirror_path(mirror_id),
                job_id=self._ctx.job.id,
                trimmed=True,
            )
            await datasets.insert(tx, fresh)
            return fresh.path

    @asynccontextmanager
    async def turn(self, step: Step) -> AsyncIterator[None]:
        """Waits until no other running job ships to this server what may be in the step's
        dataset: of one snapshot, two jobs may see different datasets, before and after a
        promotion. Turns are taken in the order of their names, so that no two jobs wait for
        each other."""
        layers = sorted(self._layers[step.source])
        await self._wait(layers)
        try:
            yield
        finally:
            async with self._ctx.write() as tx:
                for generation_id in layers:
                    await leases.drop(tx, self._ctx.server_id, generation_id, self._ctx.job)

    async def _wait(self, layers: Sequence[str]) -> None:
        for _ in range(int(TURN_WAIT_SECONDS_MAX / TURN_POLL_SECONDS)):
            async with self._ctx.write() as tx:
                if await self._take_all(tx, layers):
                    return
            await asyncio.sleep(TURN_POLL_SECONDS)
        raise JobError("TRANSFER_STALLED", "another job kept its turn for too long", retryable=True)

    async def _take_all(self, tx: Tx, layers: Sequence[str]) -> bool:
        """Takes one after the other, and keeps those before the first that it does not get."""
        for generation_id in layers:
            if not await leases.take(tx, self._ctx.server_id, generation_id, self._ctx.job):
                return False
        return True

    async def begins(self, step: Step, path: str, here: Forest) -> None:
        """A whole mirror that grows is this job's until it has grown; if that never comes, the
        collector trims it when the job has ended. What may come to lie in the mirror is noted
        before it does."""
        if self._ctx.peer is not None:
            self._ctx.peer.begins(step)
        async with self._ctx.write() as tx:
            row = await datasets.by_path(tx, self._ctx.server_id, path)
            if row is None:
                return
            await datasets.add_strata(tx, row, await self._comes_in(tx, step, here))
            if row.ready:
                self._trimmed = row.trimmed
                await datasets.change(tx, row.id, trimmed=False, job_id=self._ctx.job.id)

    async def _comes_in(self, tx: Tx, step: Step, here: Forest) -> set[str]:
        """The generations of the source's dataset and, for a branch, which takes the base and
        what is older with it, those of the dataset that it leaves."""
        layers = set(self._layers[step.source])
        base = here.find(step.base) if step.base else None
        if step.landing is Landing.BRANCH and base is not None:
            trunk = await datasets.by_path(tx, self._ctx.server_id, base.dataset)
            if trunk is not None:
                layers |= await datasets.generations(tx, trunk)
        return layers

    async def landed(self, step: Step, path: str) -> None:
        """The mirror is whole from now on, and a base for others. What an earlier job has left
        in it is still there."""
        async with self._ctx.write() as tx:
            row = await datasets.by_path(tx, self._ctx.server_id, path)
            if row is not None and not row.ready:
                await datasets.change(tx, row.id, ready=True)
            elif row is not None:
                await datasets.change(tx, row.id, trimmed=self._trimmed)

    async def whole(self, guids: Collection[Guid]) -> None:
        """These snapshots are on this server, and so the mirrors that have them are whole, also
        where the attempt that received them was killed before it could say so."""
        async with self._ctx.db.read() as tx:
            rows = await datasets.on_server(tx, self._ctx.server_id)
        begun = {row.path: row for row in rows if row.role is Role.MIRROR and not row.ready}
        forest = await self._ctx.storage.inspect(sorted(begun))
        found = {snapshot.dataset for snapshot in forest.snapshots() if snapshot.guid in guids}
        if not found:
            return
        async with self._ctx.write() as tx:
            for path in sorted(found & begun.keys()):
                await datasets.change(tx, begun[path].id, ready=True)

    def bases(self, source: Forest, guid: Guid, source_container_id: str) -> list[Base]:
        """What both servers keep from now on, so that the next increment is possible: for each
        generation that the lineage passes, the newest snapshot that is now on both sides."""
        newest: dict[str, Guid] = {}
        for snapshot in source.lineage(guid):
            newest.setdefault(self._generations[snapshot.dataset], snapshot.guid)
        here, there = self._ctx.server_id, self._source_server_id
        return [
            Base(source_container_id, generation_id, holder, peer, base)
            for generation_id, base in newest.items()
            for holder, peer in ((here, there), (there, here))
        ]
