"""Sizes are noted as the storage has them, of many at once in few transactions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from daemon.actions import sizes
from daemon.model import Container, new_id
from daemon.store import user_snapshots
from daemon.store.database import Database, Tx
from tests.engine_world import World

MANY = 200
WRITERS_MAX = 5


class CountedDatabase(Database):
    """A catalogue that counts who writes."""

    writers = 0

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Tx]:
        self.writers += 1
        async with super().write() as tx:
            yield tx


async def test_many_sizes_are_noted_in_few_transactions(
    world: World, source: Container, url: str
) -> None:
    taken = await world.snapshot(source)
    async with world.db.write() as tx:
        for number in range(MANY):
            entry = replace(taken, id=new_id(), name=f"one-{number}", referenced_bytes=0)
            await user_snapshots.insert(tx, entry)
    forest = await world.forest(world.here)
    found = next(one for one in forest.snapshots() if one.guid == taken.guid)
    db = CountedDatabase(url)
    try:
        await sizes.note(db, world.here.id, forest)
        assert {one.referenced_bytes for one in await world.listed(source)} == {
            found.referenced_bytes
        }
        assert found.referenced_bytes > 0
        assert db.writers <= WRITERS_MAX
        db.writers = 0
        await sizes.note(db, world.here.id, forest)
        assert db.writers == 0
    finally:
        await db.close()
