"""A dir storage's clones stand alone: the snapshot that they were made from may go, also while
they are read; and nothing half-made stays in a live dataset."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.pair import LIVE, MIRROR, Counting, Pair, frozen, ignore, make_pair, step
from tests.trees import listing
from transfer.errors import CannotExpress, DatasetBusy
from transfer.model import Landing, Snapshot, Step, StepKind
from transfer.storage.directory_basis import open_basis
from transfer.storage.directory_layout import Layout
from transfer.tree.chunk import copy_file

COPY = "containers/c2/g2"


@pytest.fixture
async def pair(tmp_path: Path) -> Pair:
    return await make_pair(tmp_path)


@pytest.fixture
async def orphan(pair: Pair) -> Snapshot:
    """`COPY` is live, and the snapshot that it was made from is destroyed."""
    origin = await pair.snapshot()
    await pair.source.clone(origin.guid, COPY)
    await pair.source.mount(COPY)
    await pair.source.release([origin.guid], "test")
    await pair.source.destroy_snapshot(LIVE, origin.guid)
    return origin


async def snapshot_of_copy(pair: Pair, name: str = "h-own") -> Snapshot:
    return await pair.source.snapshot(COPY, name, "test")


async def test_a_clone_whose_origin_is_gone_is_whole(pair: Pair, orphan: Snapshot) -> None:
    before = listing(pair.live)
    assert listing(Path(pair.source.rootfs(COPY))) == before
    assert (await pair.source.inspect([COPY])).datasets[COPY].origin == orphan.guid
    assert (await pair.source.forest()).find(orphan.guid) is None
    own = await snapshot_of_copy(pair)
    assert listing(frozen(pair.source, own)) == before
    assert own.unique_bytes == own.referenced_bytes > 0
    assert (await snapshot_of_copy(pair, "h-again")).guid == own.guid


async def test_its_lineage_ends_with_it(pair: Pair, orphan: Snapshot) -> None:
    own = await snapshot_of_copy(pair)
    forest = await pair.source.lineage([own.guid, orphan.guid])
    assert list(forest.datasets) == [COPY]
    assert [one.guid for one in forest.lineage(own.guid)] == [own.guid]


async def test_it_ships_whole_and_then_by_what_changed(pair: Pair, orphan: Snapshot) -> None:
    own = await snapshot_of_copy(pair)
    whole = Step(StepKind.CONTENT, COPY, own.guid, own.name, None, Landing.NEW)
    assert await pair.source.size(whole) == own.referenced_bytes
    await pair.apply(own)
    (Path(pair.source.rootfs(COPY)) / "file").write_bytes(b"later")
    later = await snapshot_of_copy(pair, "h-later")
    assert await pair.source.size(step(later, own)) == later.unique_bytes
    await pair.apply(later, own)
    assert set(pair.asked.chunks) == {b"file"}


async def test_a_base_that_only_the_target_has_still_serves(pair: Pair) -> None:
    """The source has let it go: nobody there has a clone that pins it."""
    base = await pair.snapshot()
    await pair.apply(base)
    await pair.source.release([base.guid], "test")
    (pair.live / "file").write_bytes(b"later")
    later = await pair.snapshot()
    await pair.source.destroy_snapshot(LIVE, base.guid)
    assert 0 < await pair.source.size(step(later, base)) <= later.referenced_bytes
    asked = Counting(pair.source)
    found = await pair.target.apply(step(later, base), MIRROR, asked, ignore)
    assert set(asked.chunks) == {b"file"}
    assert listing(frozen(pair.target, found)) == listing(pair.live)


async def test_the_origin_goes_on_the_target_too(pair: Pair) -> None:
    """A content diff onto a base that is a clone's origin, and goes right after."""
    base = await pair.snapshot()
    await pair.apply(base)
    (pair.live / "file").write_bytes(b"later")
    later = await pair.snapshot()
    tree = await pair.apply(later, base)
    await pair.target.clone(base.guid, COPY)
    await pair.target.mount(COPY)
    await pair.target.destroy_snapshot(MIRROR, base.guid)
    assert listing(tree) == listing(frozen(pair.source, later))
    own = await pair.target.snapshot(COPY, "h-own", "test")
    assert listing(frozen(pair.target, own)) == listing(frozen(pair.source, base))
    await pair.target.retire(COPY, "mirrors/old")
    assert (await pair.target.lineage([own.guid])).datasets.keys() == {"mirrors/old"}


async def test_settled_and_written_do_without_it(pair: Pair, orphan: Snapshot) -> None:
    assert (await pair.source.settle(COPY, "h-settled")).snapshots == ()
    assert not await pair.source.written(COPY, "h-x")
    (Path(pair.source.rootfs(COPY)) / "file").write_bytes(b"later")
    assert await pair.source.written(COPY, "h-x")


async def test_what_is_being_read_cannot_be_destroyed(pair: Pair) -> None:
    """A live tree's snapshot links unchanged files from the origin, which nobody holds."""
    origin = await pair.snapshot()
    await pair.source.clone(origin.guid, COPY)
    await pair.source.release([origin.guid], "test")
    layout: Layout = pair.source._layout
    with open_basis(layout, layout.dataset(COPY)) as basis:
        assert basis is not None
        for _ in range(2):
            with pytest.raises(DatasetBusy):
                await pair.source.destroy_snapshot(LIVE, origin.guid)
        await pair.source.retire(LIVE, "mirrors/moved")
        assert os.listdir(basis.tree)
    found = (await pair.source.lineage([origin.guid])).find(origin.guid)
    assert found is not None
    assert found.dataset == "mirrors/moved"
    for _ in range(2):
        await pair.source.destroy_snapshot("mirrors/moved", origin.guid)
    with open_basis(layout, layout.dataset(COPY)) as basis:
        assert basis is None
    assert listing(frozen(pair.source, await snapshot_of_copy(pair))) == listing(
        Path(pair.source.rootfs(COPY))
    )


async def test_snapshots_while_origins_go(pair: Pair) -> None:
    """The collector at work beside snapshots: each is whole, whatever it was built from."""
    origins = [await pair.snapshot()]
    (pair.live / "file").write_bytes(b"second")
    origins.append(await pair.snapshot())
    live = []
    for number, origin in enumerate(origins):
        path = f"containers/{number}/{number}"
        await pair.source.clone(origin.guid, path)
        await pair.source.release([origin.guid], "test")
        live.append(path)
    facts = [listing(Path(pair.source.rootfs(path))) for path in live]

    async def destroy(origin: Snapshot) -> None:
        for _ in range(1000):
            try:
                await pair.source.destroy_snapshot(LIVE, origin.guid)
            except DatasetBusy:
                continue
            return

    taken = await asyncio.gather(
        *(pair.source.snapshot(path, f"h-of-{at}", "test") for at, path in enumerate(live)),
        *(destroy(origin) for origin in origins),
    )
    for at, snapshot in enumerate(taken[: len(live)]):
        assert snapshot is not None
        assert listing(frozen(pair.source, snapshot)) == facts[at]


async def test_there_is_nothing_to_promote(pair: Pair, orphan: Snapshot) -> None:
    assert not (await pair.source.traits()).clones_pin
    with pytest.raises(CannotExpress, match="stand alone"):
        await pair.source.promote(COPY, orphan.guid)


# What a killed process leaves


async def test_the_next_snapshot_removes_what_a_killed_one_has_left(
    pair: Pair, tmp_path: Path
) -> None:
    snapshots = tmp_path / "source" / "root" / LIVE / "snapshots"
    elsewhere = tmp_path / "source" / "root" / "mirrors" / "first" / "snapshots" / ".tmp-h-9"
    for left in (snapshots / ".tmp-h-7", snapshots / ".tmp-h-8", elsewhere):
        (left / "tree" / "etc").mkdir(parents=True)
        (left / "tree" / "etc" / "file").write_bytes(b"half")
    taken = await pair.snapshot()
    assert os.listdir(snapshots) == [taken.name]
    assert elsewhere.exists()  # an apply goes on with what it has fetched
    (snapshots / ".tmp-h-7").mkdir()
    assert (await pair.snapshot()).guid == taken.guid
    assert os.listdir(snapshots) == [taken.name]


async def test_the_next_destroy_removes_what_a_killed_one_has_left(
    pair: Pair, tmp_path: Path
) -> None:
    snapshots = tmp_path / "source" / "root" / LIVE / "snapshots"
    taken = await pair.snapshot()
    (snapshots / ".gone-h-7" / "tree").mkdir(parents=True)
    await pair.source.release([taken.guid], "test")
    await pair.source.destroy_snapshot(LIVE, taken.guid)
    assert os.listdir(snapshots) == []


# What is written while it is read


async def test_a_file_that_is_written_all_the_time_is_counted(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The count stays with the snapshot, and what goes from it to a clone is consistent again."""
    busy = pair.live / "file"

    def copy_and_write(source: int, target: int) -> tuple[bytes, int]:
        copied = copy_file(source, target)
        if os.path.samestat(os.fstat(source), busy.stat()):
            with busy.open("ab") as file:
                file.write(b"x")
        return copied

    assert (await pair.snapshot()).inconsistent_files == 0
    busy.write_bytes(b"begun")
    with monkeypatch.context() as patched:
        patched.setattr("transfer.tree.copy.copy_file", copy_and_write)
        taken = await pair.snapshot()
    assert taken.inconsistent_files == 1
    assert (await pair.source.lineage([taken.guid])).find(taken.guid) == taken
    later = await pair.snapshot()
    assert (later.inconsistent_files, later.guid != taken.guid) == (0, True)
    await pair.source.clone(taken.guid, COPY)
    await pair.source.mount(COPY)
    assert (await snapshot_of_copy(pair)).inconsistent_files == 0
