"""What only the dir storage promises of live trees and snapshots."""

from __future__ import annotations

import dataclasses
import mmap
import os
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tests.pair import LIVE, Pair, frozen, ignore, make_pair, step
from tests.trees import listing
from transfer.errors import (
    CannotExpress,
    DatasetBusy,
    SnapshotMissing,
    SourcePathInvalid,
    StorageError,
)
from transfer.model import Guid, StepKind
from transfer.tree.node import decode, node_digest


@pytest.fixture
async def pair(tmp_path: Path) -> Pair:
    return await make_pair(tmp_path)


async def test_no_write_is_lost_to_a_coarse_clock(pair: Pair) -> None:
    """Same size, same mtime, in the same tick as the snapshot before."""
    path = pair.live / "file"
    with path.open("r+b", buffering=0) as file:
        for number in range(200):
            content = f"{number:06d}".encode()
            os.pwrite(file.fileno(), content, 0)
            os.utime(path, ns=(1, 1_600_000_000_000_000_000))
            found = await pair.snapshot()
            assert (frozen(pair.source, found) / "file").read_bytes() == content
    assert len((await pair.source.inspect([LIVE])).datasets[LIVE].snapshots) == 200


async def test_writing_to_the_live_tree_changes_no_snapshot(pair: Pair) -> None:
    first = await pair.snapshot()
    facts = listing(frozen(pair.source, first))
    for path in pair.live.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(0o600)
            with path.open("r+b") as file:
                file.write(b"overwritten in place")
    second = await pair.snapshot()
    assert second.guid != first.guid
    assert listing(frozen(pair.source, first)) == facts
    assert listing(frozen(pair.source, second)) == listing(pair.live)


async def test_a_file_is_read_only_when_it_may_have_changed(pair: Pair) -> None:
    await pair.snapshot()
    await pair.snapshot()  # by now nothing is as young as the index
    os.utime(pair.live / "big", ns=(1, 1))
    snapshot = await pair.snapshot()
    size = (pair.live / "big").stat().st_size
    assert snapshot.unique_bytes == size
    assert snapshot.referenced_bytes > size


async def test_a_renamed_directory_is_linked_not_copied(pair: Pair) -> None:
    await pair.snapshot()
    await pair.snapshot()
    (pair.live / "etc").rename(pair.live / "etcetera")
    assert (await pair.snapshot()).unique_bytes == 0


async def test_a_damaged_index_costs_only_time(pair: Pair, tmp_path: Path) -> None:
    first = await pair.snapshot()
    index = tmp_path / "source" / "root" / LIVE / "index"
    index.write_bytes(index.read_bytes()[:-3])
    assert (await pair.snapshot()).guid == first.guid


def let_the_clock_tick(path: Path) -> None:
    """Until the filesystem gives out a time after the file's: some milliseconds at most."""
    scratch = path.parent.parent / "scratch"
    for _ in range(1_000_000):
        scratch.touch()
        if scratch.stat().st_ctime_ns > path.stat().st_ctime_ns:
            return
    raise AssertionError("the clock stands")


@pytest.fixture
async def pair_on_disk() -> AsyncIterator[Pair]:
    with tempfile.TemporaryDirectory(prefix="hoody-", dir="/var/tmp") as directory:
        yield await make_pair(Path(directory))


async def test_stores_through_a_mapping_are_seen(pair_on_disk: Pair) -> None:
    """A store into a page that is dirty already would move no time of the file; nor would any on
    a filesystem in memory."""
    pair = pair_on_disk
    path = pair.live / "big"
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        for number in range(1, 4):
            mapped[0] = number
            os.utime(path, ns=(1, 1))
            taken = await pair.snapshot()
            mapped[0] = number
            os.utime(path, ns=(1, 1))
            let_the_clock_tick(path)
            assert (await pair.snapshot()).guid == taken.guid
            mapped[0] = 100 + number
            found = await pair.snapshot()
            assert (frozen(pair.source, found) / "big").read_bytes()[0] == 100 + number


async def test_written_sees_the_smallest_change(pair: Pair) -> None:
    assert await pair.source.written(LIVE, "h-x")  # nothing settled: nothing known
    await pair.source.settle(LIVE, "h-x")
    assert not await pair.source.written(LIVE, "h-x")
    (pair.live / "file").read_bytes()
    assert not await pair.source.written(LIVE, "h-x")
    times = (pair.live / "file").stat()
    with (pair.live / "file").open("r+b") as file:
        file.write(b"A")
    os.utime(pair.live / "file", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert await pair.source.written(LIVE, "h-x")


# What is refused


async def test_a_held_snapshot_stays(pair: Pair) -> None:
    snapshot = await pair.snapshot()
    with pytest.raises(DatasetBusy):
        await pair.source.destroy_snapshot(LIVE, snapshot.guid)
    await pair.source.release([snapshot.guid], "test")
    await pair.source.destroy_snapshot(LIVE, snapshot.guid)
    await pair.source.destroy_snapshot(LIVE, snapshot.guid)
    with pytest.raises(SnapshotMissing):
        await pair.source.hold([snapshot.guid], "test")


async def test_native_streams_are_refused(pair: Pair) -> None:
    native = dataclasses.replace(step(await pair.snapshot(), None), kind=StepKind.FULL)
    with pytest.raises(CannotExpress):
        pair.source.send(native)


@pytest.mark.parametrize("path", ["mirrors/../x", "/etc", "containers/a", "mirrors/.tmp-x", ""])
async def test_a_path_that_is_none_is_refused(pair: Pair, path: str) -> None:
    with pytest.raises(StorageError):
        await pair.source.clone((await pair.snapshot()).guid, path)


async def test_a_symlink_is_no_tree_to_take_in(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "tree")
    for tree in (tmp_path / "link", tmp_path / "absent", tmp_path / "tree" / "file", Path("tree")):
        with pytest.raises(SourcePathInvalid):
            await pair.source.take_in(str(tree), "mirrors/other", "h-9", ignore)
    assert "mirrors/other" not in (await pair.source.forest()).datasets


async def test_decoded_nodes_are_those_of_the_tree(pair: Pair) -> None:
    guid = (await pair.snapshot()).guid
    root = [node async for node in pair.source.tree_nodes(guid, [b""])]
    assert node_digest(root[0]) == await pair.source.tree_root(guid)
    names = {entry.name for entry in decode(root[0]).entries}
    assert names == {os.fsencode(name) for name in os.listdir(pair.live)}


async def test_a_snapshot_that_goes_as_it_is_found_is_taken_again(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look that finds the newest one good and its hold, somebody destroys it."""
    first = await pair.snapshot()
    await pair.source.release([first.guid], "test")
    hold, gone = pair.source.hold, [first.guid]

    async def late(guids: Sequence[Guid], tag: str) -> None:
        for guid in guids:
            if guid in gone:
                await pair.source.destroy_snapshot(LIVE, gone.pop())
        await hold(guids, tag)

    monkeypatch.setattr(pair.source, "hold", late)
    assert (await pair.snapshot()).guid != first.guid
    assert gone == []
