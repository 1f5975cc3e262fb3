"""Attempts to which something happens after a call of a storage or a commit of the catalogue: they
are killed, or cancelled, or sleep until another attempt has done their job."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import select

from daemon.actions import ACTIONS
from daemon.model import Job, Json
from daemon.states import Move
from daemon.store import datasets, holdings, jobs, schema
from daemon.store.database import Database, Tx
from tests.engine_world import World

Rows = dict[str, list[str]]


class Killed(BaseException):
    """Nothing catches it, as nothing survives a kill."""


class Fuse:
    """Kills when the call with this number has been made; never where that is 0."""

    def __init__(self, number: int) -> None:
        self._left = number
        self.blown = False

    async def burn(self) -> None:
        self._left -= 1
        if self._left == 0:
            self.blown = True
            await self.blow()

    async def blow(self) -> None:
        raise Killed


class Cancel(Fuse):
    """Asks for the cancel of the job; where it is granted, the worker is killed, as the engine
    does it."""

    def __init__(self, number: int, world: World, job: Job) -> None:
        super().__init__(number)
        self._world = world
        self._job = job
        self.granted = False

    async def blow(self) -> None:
        async with self._world.db.write() as tx:
            self.granted = await jobs.request_cancel(tx, self._job.id) is not None
        if self.granted:
            raise Killed


class Sleep(Fuse):
    """Lets the attempt sleep: it loses its lease, and another attempt does the job. `after` is
    the catalogue as that one left it."""

    def __init__(self, number: int, world: World, job: Job) -> None:
        super().__init__(number)
        self._world = world
        self._job = job
        self.after: Rows = {}

    async def blow(self) -> None:
        await self._world.end(self._job, Move.REQUEUE)
        await self._world.carry_out(self._job)
        self.after = await all_rows(self._world)


class MortalDatabase:
    """The catalogue, whose commits count."""

    def __init__(self, db: Database, fuse: Fuse) -> None:
        self._db = db
        self._fuse = fuse
        self.read = db.read

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Tx]:
        async with self._db.write() as tx:
            yield tx
        await self._fuse.burn()


class MortalStorage:
    """A storage, whose calls count."""

    def __init__(self, storage: Any, fuse: Fuse) -> None:
        self._storage = storage
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._storage, name)
        if name in ("rootfs", "is_mounted", "send") or name.startswith("tree_"):
            return found

        async def call(*args: Any) -> Any:
            result = await found(*args)
            await self._fuse.burn()
            return result

        return call


async def run(world: World, claimed: Job, fuse: Fuse) -> Json | None:
    """The action alone, with the fuse in its catalogue and its storages. May raise Killed."""
    mortal: Any = MortalDatabase(world.db, fuse)
    storage = MortalStorage(world.place(claimed.server_id).storage, fuse)
    ctx = world.context(claimed, mortal, storage, lambda peer: MortalStorage(peer, fuse))
    return await ACTIONS[claimed.type].run(ctx)


async def attempt(world: World, job: Job, fuse: Fuse, killed: Move = Move.REQUEUE) -> bool:
    """One attempt; False when it was killed, and with the job was done what `killed` says."""
    claimed = await world.claim(job)
    try:
        result = await run(world, claimed, fuse)
    except Killed:
        await world.end(claimed, killed)
        return False
    await world.end(claimed, result=result)
    return True


async def all_rows(world: World) -> Rows:
    """The whole catalogue, by table."""
    async with world.db.read() as tx:
        return {
            table.name: sorted(repr(tuple(row)) for row in await tx.execute(select(table)))
            for table in schema.metadata.sorted_tables
        }


async def clean(world: World) -> None:
    """Collect finds nothing to do any more, nothing half-made and no hold is left, and doctor has
    no findings."""
    for place in (world.here, world.there):
        await world.settle(place)
        async with world.db.read() as tx:
            assert await holdings.of_server(tx, place.id) == []
            assert [row for row in await datasets.on_server(tx, place.id) if not row.ready] == []
        assert [s for s in (await world.forest(place)).snapshots() if s.holds] == []
        assert await world.findings(place) == []
