"""What a gate remembers of what a job reaches: it looks once, and gives no other job more by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from daemon import exporter
from daemon.exporter import CatalogueGate
from daemon.model import Container, Job, hold_tag, new_id
from daemon.states import Move
from tests.engine_world import World
from transfer.errors import PeerRefused
from transfer.model import Forest, Guid
from transfer.peer.messages import GetTreeRoot, Hold


class Looks:
    """A storage, whose looks at lineages are counted."""

    def __init__(self, storage: Any) -> None:
        self.count = 0
        self._storage = storage

    async def lineage(self, guids: Sequence[Guid], paths: Sequence[str] = ()) -> Forest:
        self.count += 1
        return await self._storage.lineage(guids, paths)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)


@pytest.fixture
def looks(world: World) -> Looks:
    return Looks(world.here.storage)


@pytest.fixture
def gate(world: World, looks: Looks) -> CatalogueGate:
    storage: Any = looks
    return CatalogueGate(world.db, storage, world.here.id)


async def reader(world: World, source: Container) -> tuple[Job, Guid]:
    """A running copy to the other server, and a snapshot of its source."""
    (await world.live(source) / "file").write_text(new_id())
    _, job = await world.begin_copy(source, name=f"c-{new_id()}")
    running = await world.claim(job)
    path, name = world.path(source), f"h-{new_id()}"
    taken = await world.here.storage.snapshot(path, name, hold_tag(job.id))
    return running, taken.guid


async def test_it_is_looked_at_once_and_again_for_more(
    world: World, source: Container, gate: CatalogueGate, looks: Looks
) -> None:
    there = world.there.id
    job, guid = await reader(world, source)
    for _ in range(3):
        await gate.authorize(there, Hold(job.id, (guid,)))
        await gate.authorize(there, GetTreeRoot(job.id, guid))
    assert looks.count == 1
    (await world.live(source) / "file").write_text("more")
    more = await world.here.storage.snapshot(world.path(source), f"h-{new_id()}", "more")
    await gate.authorize(there, Hold(job.id, (guid, more.guid)))
    assert looks.count == 2


async def test_it_is_one_jobs_and_as_long_as_that_runs(
    world: World, source: Container, gate: CatalogueGate
) -> None:
    there = world.there.id
    job, guid = await reader(world, source)
    other, foreign = await reader(world, await world.create("stranger"))
    await gate.authorize(there, Hold(job.id, (guid,)))
    await gate.authorize(there, Hold(other.id, (foreign,)))
    for running, strange in ((job, foreign), (other, guid)):
        with pytest.raises(PeerRefused):
            await gate.authorize(there, Hold(running.id, (strange,)))
    await world.end(job, Move.FAIL)
    with pytest.raises(PeerRefused):
        await gate.authorize(there, Hold(job.id, (guid,)))


async def test_to_know_it_is_not_to_read_it(
    world: World, source: Container, gate: CatalogueGate
) -> None:
    """Of a dataset that another container stands on too, beyond what this one's was made from."""
    job, _ = await reader(world, await world.copy(source, world.here, "twin"))
    (await world.live(source) / "file").write_text("later")
    later = await world.here.storage.snapshot(world.path(source), f"h-{new_id()}", "later")
    there = world.there.id
    for _ in range(2):
        await gate.authorize(there, Hold(job.id, (later.guid,)))
        with pytest.raises(PeerRefused):
            await gate.authorize(there, GetTreeRoot(job.id, later.guid))


async def test_no_more_jobs_are_remembered_than_that(
    world: World, source: Container, gate: CatalogueGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "REACHES_MAX", 2)
    there = world.there.id
    readers = [await reader(world, source) for _ in range(4)]
    for job, guid in readers * 2:
        await gate.authorize(there, Hold(job.id, (guid,)))
        assert len(gate._reaches) <= 2
