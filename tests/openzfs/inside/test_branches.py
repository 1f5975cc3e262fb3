"""Increments that only the real module takes: from a bookmark, and over several clones."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.zfs_servers import TAG, Servers, mirror, open_servers
from transfer.errors import PeerUnreachable
from transfer.model import Landing, Snapshot, Step
from transfer.plan import Here, place, plan

pytestmark = pytest.mark.zfs

STATE_BYTES = 4 << 20


@pytest.fixture
async def servers(zfs_pool: Callable[..., str], tmp_path: Path) -> Servers:
    return await open_servers(zfs_pool, tmp_path)


async def planned(servers: Servers, *wanted: Snapshot) -> list[Step]:
    guids = [snapshot.guid for snapshot in wanted]
    source, here = await servers.source.lineage(guids), await servers.target.forest()
    steps = plan(source, guids, Here(here), native=True, branches=True, runs=True).steps
    return [replace(place(step, source, here), flags="Lec") for step in steps]


async def ship_planned(servers: Servers, *wanted: Snapshot) -> list[Step]:
    """Ships what is missing; the steps."""
    done = []
    while steps := await planned(servers, *wanted):
        await servers.ship(steps[0], steps[0].into or mirror())
        done.append(steps[0])
    return done


async def test_what_the_source_has_let_go_of_is_still_a_base(servers: Servers) -> None:
    """By its bookmark, until that is destroyed too."""
    servers.write("first")
    first = await servers.snapshot()
    await ship_planned(servers, first)
    servers.write("second")
    second = await servers.snapshot()
    await servers.source.release([first.guid], TAG)
    await servers.source.destroy_snapshot(servers.path, first.guid)
    (step,) = await planned(servers, second)
    assert (step.base, step.landing) == (first.guid, Landing.EXTEND)
    assert await servers.source.size(step) > 0
    await servers.ship(step, step.into or "")
    assert await servers.names(step.into or "") == {"first", "second"}
    for snapshot in (first, second):
        await servers.source.destroy_bookmark(servers.path, snapshot.guid)
    dataset = (await servers.source.inspect([servers.path])).datasets[servers.path]
    assert [mark.guid for mark in dataset.bookmarks] == [second.guid], "its snapshot is here"


async def test_a_level_that_nothing_else_stands_on_is_passed_over(servers: Servers) -> None:
    """Two clones further there is one stream, which lands on the base."""
    servers.write("first")
    first = await servers.snapshot()
    await ship_planned(servers, first)
    near = await servers.clone(first)
    servers.write("near", path=near)
    far = await servers.clone(await servers.snapshot(near))
    servers.write("far", path=far)
    last = await servers.snapshot(far)
    (step,) = await ship_planned(servers, last)
    assert (step.base, step.landing) == (first.guid, Landing.NEW)
    there = await servers.target.forest()
    landed = there.find(last.guid)
    assert landed is not None
    assert there.datasets[landed.dataset].origin == first.guid
    assert await servers.names(landed.dataset) == {"first", "near", "far"}


async def test_a_level_that_two_stand_on_comes_once(servers: Servers) -> None:
    """And all that is below it, which is most of the bytes."""
    servers.write("first", STATE_BYTES)
    first = await servers.snapshot()
    await ship_planned(servers, first)
    near = await servers.clone(first)
    servers.write("near", path=near)
    shared = await servers.snapshot(near)
    lasts = []
    for number in range(2):
        far = await servers.clone(shared)
        servers.write(f"far-{number}", path=far)
        lasts.append(await servers.snapshot(far))
    one, two = await ship_planned(servers, lasts[0])
    assert [one.snapshot, two.base] == [shared.guid, shared.guid]
    (three,) = await ship_planned(servers, lasts[1])
    assert three.base == shared.guid
    assert sum([await servers.source.size(step) for step in (one, two, three)]) < STATE_BYTES // 4


async def test_a_wanted_snapshot_behind_the_head_becomes_a_clone_of_its_base(
    servers: Servers,
) -> None:
    """In one receive; the mirror keeps its snapshots."""
    snapshots = []
    for name in ("first", "second", "third"):
        servers.write(name)
        snapshots.append(await servers.snapshot())
    first, second, third = snapshots
    await ship_planned(servers, first)
    await ship_planned(servers, third)
    (step,) = await ship_planned(servers, second)
    assert (step.base, step.landing) == (first.guid, Landing.BRANCH)
    there = await servers.target.forest()
    trunk, branch = (there.find(one.guid) for one in (third, second))
    assert trunk is not None and branch is not None
    assert there.datasets[branch.dataset].origin == first.guid
    assert [one.guid for one in there.datasets[trunk.dataset].snapshots] == [
        first.guid,
        third.guid,
    ]
    assert await servers.names(branch.dataset) == {"first", "second"}


async def test_a_run_of_snapshots_comes_in_one_stream(servers: Servers) -> None:
    """And a cut one is gone on with: what was whole by then stays, the rest follows."""
    servers.write("0")
    first = await servers.snapshot()
    await ship_planned(servers, first)
    snapshots = []
    for number in range(1, 4):
        servers.write(f"{number}", STATE_BYTES)
        snapshots.append(await servers.snapshot())
    (step,) = await planned(servers, *snapshots)
    assert step.makes == tuple(snapshot.guid for snapshot in snapshots)
    assert await servers.source.size(step) > 3 * STATE_BYTES
    path = step.into or ""
    with pytest.raises(PeerUnreachable):
        async with contextlib.aclosing(servers.source.send(step)) as blocks:
            await servers.target.receive(step, path, cut(blocks, STATE_BYTES * 7 // 4))
    there = (await servers.target.inspect([path])).datasets[path]
    assert [one.guid for one in there.snapshots] == [first.guid, snapshots[0].guid]
    (rest,) = await planned(servers, *snapshots)
    resumed = await servers.target.resume_point(rest, path)
    assert resumed is not None
    assert (resumed.base, resumed.makes) == (snapshots[0].guid, (snapshots[1].guid,))
    await servers.ship(resumed, path)
    (last,) = await ship_planned(servers, *snapshots)
    assert last.makes == (snapshots[2].guid,)
    assert await servers.names(path) == {"0", "1", "2", "3"}


async def cut(blocks: AsyncIterator[bytes], after_bytes: int) -> AsyncIterator[bytes]:
    async for block in blocks:
        yield block
        after_bytes -= len(block)
        if after_bytes <= 0:
            raise PeerUnreachable("cut")
