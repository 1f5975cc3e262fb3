"""Several snapshots wanted at once: what is shipped, from which base, and what is held."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from daemon.actions import holds
from daemon.actions.ledger import CatalogueLedger
from daemon.model import Container, UserSnapshot, new_id
from daemon.states import Move
from tests.engine_world import Link, World
from transfer.errors import SnapshotMissing, SourceChanged
from transfer.model import Forest, Guid
from transfer.replicate import Outcome, Replication, Request
from transfer.storage.base import Storage


class Noting(Link):
    """A source that notes each guid that is held on it, and how often it is looked at."""

    def __init__(self, storage: Storage) -> None:
        super().__init__(storage)
        self.held: list[Guid] = []
        self.looks = 0

    async def lineage(self, guids: Sequence[Guid]) -> Forest:
        self.looks += 1
        return await self._storage.lineage(guids)

    async def hold(self, guids: Sequence[Guid], tag: str) -> None:
        self.held += guids
        await self._storage.hold(guids, tag)


async def history(world: World, source: Container) -> list[UserSnapshot]:
    """Three states, and a fourth after the first was restored."""
    found: list[UserSnapshot] = []
    for text in ("one", "two", "three", "four"):
        if text == "four":
            await world.restore(source, found[0])
        (await world.live(source) / "file").write_text(text)
        found.append(await world.snapshot(source))
    return found


async def ensure(
    world: World, source: Container, wanted: Sequence[Guid], link: Any = None, full: bool = False
) -> Outcome:
    """What one job does that pulls these from the source's server to the other."""
    _, job = await world.begin_copy(source, name=f"c-{new_id()}")
    ctx = world.context(await world.claim(job))
    await holds.announce(ctx, world.here.id, world.there.id)
    ledger = CatalogueLedger(ctx, world.here.id)
    source_link = link or Link(world.here.storage)
    replication = Replication(source_link, world.there.storage, ledger, lambda _: None)
    try:
        return await replication.ensure(Request(tuple(wanted), ctx.tag, full=full))
    finally:
        await world.end(ctx.job, Move.FAIL)


def shipped(outcome: Outcome) -> list[tuple[Guid, Guid | None]]:
    """What came from what; a run of neighbours (on OpenZFS) one after the other."""
    steps = [receipt.step for receipt in outcome.receipts]
    return [pair for step in steps for pair in zip(step.makes, (step.base, *step.run), strict=True)]


async def test_a_history_on_two_branches_comes_each_snapshot_once(
    world: World, source: Container
) -> None:
    one, two, three, four = (entry.guid for entry in await history(world, source))
    link = Noting(world.here.storage)
    outcome = await ensure(world, source, [four, one, three, two], link)
    assert shipped(outcome)[-3:] == [(two, one), (three, two), (four, one)]
    assert outcome.receipts[0].step.base is None
    assert len(link.held) == len(set(link.held)), "what is held is not held again"
    assert link.looks == 1, "nobody else ships, so that the plan holds"
    assert set(link.held) >= {one, two, three, four}
    assert shipped(await ensure(world, source, [one, two, three, four])) == []


async def test_of_a_history_that_is_partly_here_the_rest_comes(
    world: World, source: Container
) -> None:
    one, two, three, four = (entry.guid for entry in await history(world, source))
    await ensure(world, source, [one, three])
    assert shipped(await ensure(world, source, [four, three, two])) == [(two, one), (four, one)]


async def test_a_history_in_full_stands_on_nothing_that_was_here(
    world: World, source: Container
) -> None:
    one, two, three, four = (entry.guid for entry in await history(world, source))
    await ensure(world, source, [one])
    outcome = await ensure(world, source, [one, two, three, four], full=True)
    assert shipped(outcome) == [(two, None), (three, two), (four, None)]
    assert outcome.strategy == "full"


async def test_a_wanted_snapshot_that_is_gone_is_no_success(
    world: World, source: Container
) -> None:
    entries = await history(world, source)
    lost = entries[1]
    await world.here.storage.destroy_snapshot(world.path(source), lost.guid)
    with pytest.raises((SnapshotMissing, SourceChanged)):
        await ensure(world, source, [entry.guid for entry in entries])


@pytest.mark.zfs
async def test_on_zfs_a_snapshot_behind_the_mirrors_head_comes_to_a_branch(
    zfs_world: World,
) -> None:
    """And is found there by the next job, also after collect has been by."""
    source = await zfs_world.create()
    one, two, three, four = (entry.guid for entry in await history(zfs_world, source))
    await ensure(zfs_world, source, [one, three])
    outcome = await ensure(zfs_world, source, [two, four])
    assert shipped(outcome) == [(two, one), (four, one)]
    copy = await zfs_world.copy(source)
    for place in zfs_world.places:
        await zfs_world.settle(place)
        assert await zfs_world.findings(place) == []
    assert shipped(await ensure(zfs_world, source, [one, two, three, four])) == []
    for entry, text in zip(
        await zfs_world.listed(copy), ("four", "three", "two", "one"), strict=True
    ):
        await zfs_world.restore(copy, entry)
        assert (await zfs_world.live(copy) / "file").read_text() == text


@pytest.mark.zfs
async def test_on_zfs_a_history_in_full_is_one_whole_stream_and_increments(
    zfs_world: World,
) -> None:
    source = await zfs_world.create()
    one, two, three, four = (entry.guid for entry in await history(zfs_world, source))
    outcome = await ensure(zfs_world, source, [one, two, three, four], full=True)
    assert shipped(outcome) == [(one, None), (two, one), (three, two), (four, one)]
