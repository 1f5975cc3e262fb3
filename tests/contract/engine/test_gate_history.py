"""What the gate lets a job read of a source's history, wherever its snapshots lie by now."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from daemon.exporter import CatalogueGate, up_to
from daemon.model import Container, Job, JobType, UserSnapshot, new_id
from daemon.store import datasets, user_snapshots
from tests.engine_world import World
from transfer.errors import PeerRefused, SourceChanged
from transfer.model import Bookmark, Dataset, Forest, Guid, Landing, Snapshot, Step, StepKind
from transfer.peer.messages import (
    GetLineage,
    GetTreeRoot,
    Hold,
    PeerRequest,
    Send,
    TakeSnapshot,
    TreeNodes,
)


@dataclass
class History:
    """A container on `here`, inherited snapshots and all, of which a job on `there` copies.

    All inherited snapshots lie on one mirror: `old` and `new`, which the container lists, and
    `foreign`, which only another container does. What is live was made from `old`.
    """

    world: World
    source: Container
    job: Job
    old: UserSnapshot
    new: UserSnapshot
    foreign: UserSnapshot

    async def ask(self, request: PeerRequest, peer_id: str | None = None) -> None:
        gate = CatalogueGate(self.world.db, self.world.here.storage, self.world.here.id)
        await gate.authorize(peer_id or self.world.there.id, request)

    async def can_read(self, guid: Guid, job: Job | None = None) -> bool:
        """Whether the job may have the snapshot's content, by every way there is."""
        job_id = (job or self.job).id
        step = Step(StepKind.FULL, "mirrors/any", guid, f"h-{new_id()}", None, Landing.NEW)
        allowed: list[bool] = []
        for request in (
            GetTreeRoot(job_id, guid),
            Send(job_id, "auto", 0, step),
            TreeNodes(job_id, "auto", 0, guid, False, (b"",)),
        ):
            try:
                await self.ask(request)
            except PeerRefused:
                allowed.append(False)
            else:
                allowed.append(True)
        assert len(set(allowed)) == 1
        return allowed[0]


async def snapshot(world: World, container: Container, text: str) -> UserSnapshot:
    (await world.live(container) / "file").write_text(text)
    return await world.snapshot(container)


@pytest.fixture
async def history(world: World) -> History:
    first = await world.create("prod", world.there)
    old, new = [await snapshot(world, first, text) for text in ("old", "new")]
    source = await world.copy(first, world.here, "staging")
    await world.restore(source, old)
    foreign = await snapshot(world, first, "foreign")
    await world.copy(first, world.here, "another")
    await world.settle(world.here)
    _, job = await world.begin_copy(await world.get(source.id), name="dev")
    mirrored = (await world.forest(world.here)).find(foreign.guid)
    assert mirrored is not None
    assert mirrored.dataset.startswith("mirrors/")
    return History(world, source, await world.claim(job), old, new, foreign)


async def test_what_the_source_lists_may_be_read_from_a_mirror(history: History) -> None:
    assert await history.can_read(history.old.guid)
    assert await history.can_read(history.new.guid)
    guids = (history.old.guid, history.new.guid)
    await history.ask(GetLineage(history.job.id, guids))
    await history.ask(Hold(history.job.id, guids))


async def test_what_only_another_container_lists_may_not(history: History) -> None:
    """Though it lies on the same mirror, beyond what the source lists."""
    assert not await history.can_read(history.foreign.guid)


async def test_taken_off_the_list_it_may_be_read_by_who_has_begun(history: History) -> None:
    await history.world.delete_snapshot(await history.world.entry(history.source, history.new.id))
    assert await history.can_read(history.new.guid)


async def test_when_it_is_forgotten_only_the_job_that_names_it_may(history: History) -> None:
    world = history.world
    await world.delete_snapshot(await world.entry(history.source, history.new.id))
    async with world.db.write() as tx:
        await user_snapshots.forget_dropped(tx, history.source.id, ())
    assert not await history.can_read(history.new.guid)
    copy = await world.add("named", world.there, source_container_id=history.source.id)
    for params, expected in (({"guid": history.new.guid}, True), ({"guid": 7}, False)):
        job = await world.running(JobType.COPY, copy, params=params)
        assert await history.can_read(history.new.guid, job) is expected
        await world.end(job)


async def test_snapshots_are_taken_of_the_sources_own_generations_only(history: History) -> None:
    world = history.world
    await snapshot(world, history.source, "own")
    await world.restore(history.source, history.old)
    await world.settle(world.here)
    async with world.db.read() as tx:
        own = {row.path for row in await datasets.of_container(tx, history.source.id)}
    name = f"h-{new_id()}"
    live = world.path(await world.get(history.source.id))
    assert len(own) == 2  # the retired one has the snapshot that was taken on it
    await history.ask(TakeSnapshot(history.job.id, live, name))
    for dataset in await world.forest(world.here):
        if dataset.path != live:
            with pytest.raises(SourceChanged if dataset.path in own else PeerRefused):
                await history.ask(TakeSnapshot(history.job.id, dataset.path, name))


async def test_an_own_snapshot_may_be_read_wherever_it_lies(history: History) -> None:
    """Its generation is no longer the container's: a clone of another has taken it over."""
    world = history.world
    own = await snapshot(world, history.source, "own")
    generation_id = (await world.get(history.source.id)).generation_id or ""
    await world.restore(history.source, history.old)
    async with world.db.write() as tx:
        await datasets.change(tx, generation_id, container_id=None)
    assert await history.can_read(own.guid)
    await world.delete_snapshot(own)
    assert await history.can_read(own.guid)  # by who had begun


def test_a_lineage_ends_at_its_point() -> None:
    def dataset(path: str, origin: Guid | None, *guids: Guid) -> Dataset:
        made = (Snapshot(guid, f"h-{guid}", path, at) for at, guid in enumerate(guids))
        return Dataset(path, origin, tuple(made))

    forest = Forest.of(
        [
            dataset("mirrors/root", "elsewhere", "1", "2", "3", "4"),
            dataset("mirrors/left", "2", "5", "6"),
            dataset("mirrors/right", "3", "7", "8"),
        ]
    )
    cases: dict[tuple[Guid, ...], str] = {
        (): "",
        ("9",): "",
        ("1",): "1",
        ("5",): "125",
        ("8",): "12378",
        ("5", "8"): "1235 78".replace(" ", ""),
        ("8", "5", "6"): "12356 78".replace(" ", ""),
        ("8", "7", "1", "4"): "123478",
    }
    for points, expected in cases.items():
        assert up_to(forest, points) == set(expected)
        for point in points:
            assert {one.guid for one in forest.lineage(point)} <= set(expected)


def test_a_bookmark_in_the_lineage_belongs_to_it() -> None:
    marks = (Bookmark("1", "h-1", 1), Bookmark("4", "h-4", 4))
    left = (Snapshot("2", "h-2", "mirrors/m", 2), Snapshot("3", "h-3", "mirrors/m", 3))
    forest = Forest.of([Dataset("mirrors/m", None, left, bookmarks=marks)])
    assert up_to(forest, ["3"]) == {"1", "2", "3"}
