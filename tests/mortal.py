"""Attempts that are killed: after each call of a storage and each commit of the catalogue."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from daemon.actions import ACTIONS
from daemon.model import Job
from daemon.states import Move
from daemon.store.database import Database, Tx
from tests.engine_world import World


class Killed(BaseException):
    """Nothing catches it, as nothing survives a kill."""


class Fuse:
    """Kills when the call with this number has been made; never where that is 0."""

    def __init__(self, number: int) -> None:
        self._left = number
        self.blown = False

    def burn(self) -> None:
        self._left -= 1
        if self._left == 0:
            self.blown = True
            raise Killed


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
        self._fuse.burn()


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
            self._fuse.burn()
            return result

        return call


async def attempt(world: World, job: Job, fuse: Fuse) -> bool:
    """One attempt; False when it was killed, and the job is queued again."""
    claimed = await world.claim(job)
    mortal: Any = MortalDatabase(world.db, fuse)
    storage = MortalStorage(world.place(job.server_id).storage, fuse)
    ctx = world.context(claimed, mortal, storage, lambda peer: MortalStorage(peer, fuse))
    try:
        result = await ACTIONS[job.type].run(ctx)
    except Killed:
        await world.end(claimed, Move.REQUEUE)
        return False
    await world.end(claimed, result=result)
    return True
