"""Turning a clone and its origin round: what moves, and who must not notice."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.zfs_servers import Servers, full_step, increment, mirror, new_name, open_servers
from transfer.errors import DatasetBusy, SnapshotMissing, StreamCorrupt
from transfer.model import Dataset, Landing, Snapshot
from transfer.storage.locks import locked
from transfer.storage.zfs_command import Zfs

pytestmark = pytest.mark.zfs

OTHER_TAG = "hoody-" + "2" * 24


@pytest.fixture
async def servers(zfs_pool: Callable[..., str], tmp_path: Path) -> Servers:
    return await open_servers(zfs_pool, tmp_path)


async def of(servers: Servers, path: str) -> Dataset:
    return (await servers.source.inspect([path])).datasets[path]


def guids(dataset: Dataset) -> list[str]:
    return [snapshot.guid for snapshot in dataset.snapshots]


async def husk_of(servers: Servers) -> tuple[str, str, list[Snapshot]]:
    """A retired generation with two snapshots and a mounted clone of the newer one."""
    taken = []
    for name in ("first", "second"):
        servers.write(name)
        taken.append(await servers.snapshot())
    clone, husk = await servers.clone(taken[1]), mirror()
    await servers.source.retire(servers.path, husk)
    return husk, clone, taken


async def test_a_live_clone_takes_the_snapshots_over(servers: Servers) -> None:
    """It stays mounted, open files go on, and guids, holds and properties are what they were."""
    husk, clone, taken = await husk_of(servers)
    storage = servers.source
    settled = (await storage.settle(clone, new_name())).head
    assert settled is not None
    file = Path(storage.rootfs(clone), "first")
    before = (await of(servers, husk)).snapshots
    with open(file) as reader, open(file.with_name("log"), "a") as log:
        assert reader.read(2) == "fi"
        log.write("before ")
        log.flush()
        for _ in range(2):
            await storage.promote(clone, taken[1].guid)
        log.write("after")
        log.flush()
        assert reader.read() == "rst"
        assert storage.is_mounted(clone)
    assert Path(storage.rootfs(clone), "log").read_text() == "before after"
    promoted = await of(servers, clone)
    assert guids(promoted) == [taken[0].guid, taken[1].guid, settled.guid]
    assert [one.holds for one in promoted.snapshots[:2]] == [one.holds for one in before] == [1, 1]
    assert promoted.snapshots[0].name == taken[0].name
    kept = await Zfs("one").properties([f"one/{clone}"], ["hoody:settled"])
    assert list(kept[f"one/{clone}"].values()) == [settled.name]
    assert await storage.written(clone, new_name())
    emptied = await of(servers, husk)
    assert (emptied.snapshots, emptied.origin) == ((), taken[1].guid)
    await storage.destroy(husk)
    assert file.read_text() == "first"
    for tag in (taken[0].guid, taken[1].guid):
        await storage.hold([tag], OTHER_TAG)


async def test_what_only_the_husk_had_comes_back(servers: Servers) -> None:
    servers.write("big", 8 << 20)
    first = await servers.snapshot()
    clone, husk = await servers.clone(first), mirror()
    await servers.source.retire(servers.path, husk)
    os.unlink(Path(servers.source.rootfs(clone), "big"))
    await servers.source.settle(clone, new_name())
    await servers.source.promote(clone, first.guid)
    await servers.source.destroy(husk)
    used = (await servers.source.capacity()).used_bytes
    await servers.source.release([first.guid], "hoody-" + "1" * 24)
    await servers.source.destroy_snapshot(clone, first.guid)
    await servers.source.settle(clone, new_name())  # waits for the transaction group
    assert (await servers.source.capacity()).used_bytes < used - (7 << 20)


async def test_its_other_clones_stay_as_they_are(servers: Servers) -> None:
    husk, clone, taken = await husk_of(servers)
    older, newer = await servers.clone(taken[0]), await servers.clone(taken[1])
    with open(Path(servers.source.rootfs(older), "first")) as reader:
        await servers.source.promote(clone, taken[1].guid)
        assert reader.read() == "first"
    for path, origin in ((older, taken[0]), (newer, taken[1]), (husk, taken[1])):
        assert (await of(servers, path)).origin == origin.guid
        lineage = await servers.source.lineage([origin.guid])
        assert clone in lineage.datasets
        assert husk not in lineage.datasets
    assert sorted(os.listdir(servers.source.rootfs(newer))) == ["first", "second"]


async def test_in_a_chain_it_goes_one_link_only(servers: Servers) -> None:
    """Its origin's dataset was a clone too: done again, nothing more changes."""
    husk, middle, taken = await husk_of(servers)
    servers.write("third", path=middle)
    third = await servers.snapshot(middle)
    top = await servers.clone(third)
    for _ in range(2):
        await servers.source.promote(top, third.guid)
    assert guids(await of(servers, top)) == [third.guid]
    assert (await of(servers, top)).origin == taken[1].guid
    assert (await of(servers, middle)).origin == third.guid
    assert guids(await of(servers, husk)) == [taken[0].guid, taken[1].guid]
    lineage = (await servers.source.lineage([third.guid])).lineage(third.guid)
    assert [one.guid for one in lineage[:3]] == [third.guid, taken[1].guid, taken[0].guid]


async def test_what_is_no_clone_of_it_is_refused(servers: Servers) -> None:
    husk, clone, taken = await husk_of(servers)
    with pytest.raises(DatasetBusy):
        await servers.source.promote(clone, taken[0].guid)
    with pytest.raises(SnapshotMissing):
        await servers.source.promote(clone, "1")
    assert guids(await of(servers, husk)) == [taken[0].guid, taken[1].guid]
    locks = str(Path(servers.source.rootfs("x/y/z")).parents[3] / "locks")
    for receiving in (husk, clone):
        async with locked(locks, f"{receiving}.receive"):
            with pytest.raises(DatasetBusy):
                await servers.source.promote(clone, taken[1].guid)


async def test_a_snapshot_of_the_unchanged_is_the_one_that_came_by_promote(
    servers: Servers,
) -> None:
    _, clone, taken = await husk_of(servers)
    await servers.source.promote(clone, taken[1].guid)
    for _ in range(2):
        assert (await servers.snapshot(clone)).guid == taken[1].guid
    assert guids(await of(servers, clone)) == [taken[0].guid, taken[1].guid]
    servers.write("third", path=clone)
    third = await servers.snapshot(clone)
    assert guids(await of(servers, clone)) == [taken[0].guid, taken[1].guid, third.guid]


async def test_a_settled_state_that_a_mirror_took_over_is_known_still(servers: Servers) -> None:
    """A branch is made at the settled snapshot of a live generation."""
    settled = (await servers.source.settle(servers.path, new_name())).head
    assert settled is not None
    branch = mirror()
    await servers.source.clone(settled.guid, branch)
    await servers.source.promote(branch, settled.guid)
    assert guids(await of(servers, servers.path)) == []
    assert not await servers.source.written(servers.path, new_name())
    servers.write("more")
    assert await servers.source.written(servers.path, new_name())


async def test_a_head_is_known_after_a_promote_as_it_was_before(servers: Servers) -> None:
    husk, clone, taken = await husk_of(servers)
    await servers.source.trim(husk)
    assert not (await of(servers, husk)).head_differs
    await servers.source.promote(clone, taken[1].guid)
    assert (await of(servers, clone)).head_differs
    retired = mirror()
    servers.write("unseen", 4 << 20, path=clone)
    await servers.source.retire(clone, retired)
    await servers.source.trim(retired)
    assert not (await of(servers, retired)).head_differs
    assert guids(await of(servers, retired)) == [taken[0].guid, taken[1].guid]


async def test_the_newest_gone_an_older_one_does_not_pass_for_the_head(servers: Servers) -> None:
    """A receive was killed when all was in: the head was last known to equal the one before."""
    first, path = await servers.full()
    servers.write("second")
    second = await servers.snapshot()
    await servers.ship(increment(first, second, path), path)
    await Zfs("two").do("set", f"hoody:head={first.guid}", f"two/{path}")
    await servers.target.destroy_snapshot(path, second.guid)
    assert (await servers.target.inspect([path])).datasets[path].head_differs
    await servers.ship(increment(first, second, path), path)
    assert await servers.names(path) == {"first", "second"}


async def test_after_a_promote_increments_go_on_as_before(servers: Servers) -> None:
    """The target has the husk's snapshots on a mirror; what the clone takes ships from there."""
    husk, clone, taken = await husk_of(servers)
    landed = mirror()
    for step in (full_step(taken[0]), increment(taken[0], taken[1], landed)):
        await servers.ship(step, landed)
    await servers.source.promote(clone, taken[1].guid)
    await servers.source.destroy(husk)
    servers.write("third", path=clone)
    third = await servers.snapshot(clone)
    await servers.ship(increment(taken[1], third, landed), landed)
    assert await servers.names(landed) == {"first", "second", "third"}


async def test_a_branch_off_a_promoted_clone_is_taken_back(servers: Servers) -> None:
    """Here the target's mirror is the husk, and the branch fails."""
    first, path = await servers.full()
    servers.write("second")
    second = await servers.snapshot()
    await servers.ship(increment(first, second, path), path)
    clone = f"containers/{'a' * 24}/{'b' * 24}"
    await servers.target.clone(second.guid, clone)
    await servers.target.promote(clone, second.guid)
    servers.write("third", 4 << 20)
    third, branch = await servers.snapshot(), mirror()
    step = replace(increment(first, third), landing=Landing.BRANCH)
    before = await servers.target.forest()

    async with contextlib.aclosing(servers.source.send(step)) as blocks:

        async def cut() -> AsyncIterator[bytes]:
            async for block in blocks:
                yield block[: 1 << 16]
                raise StreamCorrupt("cut by the test")

        with pytest.raises(StreamCorrupt):
            await servers.target.receive(step, branch, cut())
    after = await servers.target.forest()
    assert {(one.guid, one.dataset) for one in after.snapshots()} == {
        (one.guid, one.dataset) for one in before.snapshots()
    }
    await servers.ship(step, branch)
    assert await servers.names(branch) == {"first", "second", "third"}
