"""What every storage backend does, in the words of `transfer.storage.base`: run for each."""

from __future__ import annotations

import asyncio
import os
import secrets
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from transfer.errors import (
    DatasetBusy,
    SnapshotMissing,
    SourcePathInvalid,
    StorageError,
)
from transfer.model import Snapshot
from transfer.storage import open_storage
from transfer.storage.base import Storage

KINDS = [pytest.param("zfs", marks=pytest.mark.zfs), pytest.param("dir")]
TAG = "hoody-" + "1" * 24
LOST_WRITE_ROUNDS = 30


def new_id() -> str:
    return secrets.token_hex(12)


def new_name() -> str:
    return "h-" + new_id()


def nothing(_count: int) -> None:
    """Takes note of no byte."""


@pytest.fixture(params=KINDS)
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Storage]:
    kind = request.param
    if kind == "zfs":
        make: Callable[[str], str] = request.getfixturevalue("zfs_pool")
        root = make("contract")
    else:
        root = str(tmp_path / "root")
        os.mkdir(root)
    for folder in ("mount", "locks"):
        os.mkdir(tmp_path / folder)
    yield await open_storage(kind, root, str(tmp_path / "mount"), str(tmp_path / "locks"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with one of everything that a rootfs has."""
    top = tmp_path / "tree"
    (top / "etc" / "empty").mkdir(parents=True)
    (top / "etc" / "hostname").write_text("one\n")
    (top / "bin").mkdir()
    (top / "bin" / "tool").write_bytes(os.urandom(300_000))
    os.chmod(top / "bin" / "tool", 0o4755)
    os.link(top / "bin" / "tool", top / "bin" / "tool-again")
    os.symlink("../etc/hostname", top / "bin" / "link")
    os.symlink("/nowhere", top / "etc" / "dangling")
    (top / "etc" / "empty-file").touch()
    (top / os.fsdecode(b"odd \xff\n name")).write_text("odd")
    with open(top / "sparse", "wb") as sparse:
        sparse.truncate(64 << 20)
        sparse.write(b"start")
    os.mkfifo(top / "fifo")
    if os.geteuid() == 0:
        os.chown(top / "etc" / "hostname", 1234, 4321)
        os.lchown(top / "bin" / "link", 1234, 4321)
    for path in sorted(top.rglob("*"), reverse=True):
        os.utime(path, (1_600_000_000, 1_600_000_000 + len(path.name)), follow_symlinks=False)
    os.utime(top, (1_500_000_000, 1_500_000_000))
    os.chmod(top, 0o751)
    return top


def walk(top: Path | str) -> dict[str, tuple[object, ...]]:
    """An independent account of a tree: type, mode, owner, whole seconds, content, links."""
    found: dict[str, tuple[object, ...]] = {}
    inodes: dict[int, str] = {}
    paths = [Path(top), *sorted(Path(top).rglob("*"))]
    for path in paths:
        seen = os.lstat(path)
        name = str(path.relative_to(top))
        content: object = None
        if stat.S_ISREG(seen.st_mode):
            content = (path.read_bytes(), inodes.setdefault(seen.st_ino, name))
        elif stat.S_ISLNK(seen.st_mode):
            content = os.readlink(path)
        mode = None if stat.S_ISLNK(seen.st_mode) else seen.st_mode
        kind = stat.S_IFMT(seen.st_mode)
        found[name] = (kind, mode, seen.st_uid, seen.st_gid, int(seen.st_mtime), content)
    return found


async def live(storage: Storage, tree: Path) -> str:
    """A mounted generation of a tree that was taken in."""
    mirror = f"mirrors/{new_id()}"
    taken = await storage.take_in(str(tree), mirror, new_name(), nothing)
    path = f"containers/{new_id()}/{new_id()}"
    await storage.clone(taken.guid, path)
    await storage.mount(path)
    return path


async def frozen_tree(storage: Storage, snapshot: Snapshot) -> dict[str, tuple[object, ...]]:
    """What a snapshot holds, seen through a clone of it."""
    path = f"containers/{new_id()}/{new_id()}"
    await storage.clone(snapshot.guid, path)
    try:
        return walk(await storage.mount(path))
    finally:
        await storage.unmount(path)
        await storage.destroy(path)


async def test_what_is_taken_in_is_the_same_tree(storage: Storage, tree: Path) -> None:
    path, name = f"mirrors/{new_id()}", new_name()
    counted: list[int] = []
    before = walk(tree)
    taken = await storage.take_in(str(tree), path, name, counted.append)
    again = await storage.take_in(str(tree), path, name, counted.append)
    assert taken.guid == again.guid
    assert (taken.name, taken.dataset) == (name, path)
    assert sum(counted) >= 300_000
    assert await frozen_tree(storage, taken) == before
    assert walk(tree) == before
    dataset = (await storage.inspect([path])).datasets[path]
    assert not dataset.partial
    assert dataset.is_mirror


async def test_a_sparse_file_stays_sparse(storage: Storage, tree: Path) -> None:
    path = await live(storage, tree)
    await storage.snapshot(path, new_name(), TAG)
    seen = os.stat(os.path.join(storage.rootfs(path), "sparse"))
    assert seen.st_size == 64 << 20
    assert seen.st_blocks * 512 < 8 << 20


@pytest.mark.parametrize("bad", ["missing", "file", "link", "relative"])
async def test_a_bad_source_path_is_refused(
    storage: Storage, tree: Path, tmp_path: Path, bad: str
) -> None:
    (tmp_path / "file").touch()
    os.symlink(tree, tmp_path / "link")
    given = "tree" if bad == "relative" else str(tmp_path / bad)
    path = f"mirrors/{new_id()}"
    with pytest.raises(SourcePathInvalid):
        await storage.take_in(given, path, new_name(), nothing)
    assert path not in (await storage.forest()).datasets


async def test_a_snapshot_of_the_unchanged_is_the_one_before(storage: Storage, tree: Path) -> None:
    path = await live(storage, tree)
    settled = await storage.settle(path, new_name())
    first = await storage.snapshot(path, new_name(), TAG)
    if settled.head is not None:
        assert first.guid == settled.head.guid
    second = await storage.snapshot(path, new_name(), TAG)
    assert second.guid == first.guid
    Path(storage.rootfs(path), "new").write_text("new")
    third = await storage.snapshot(path, new_name(), TAG)
    assert third.guid != first.guid
    assert third.order > first.order
    guids = [one.guid for one in (await storage.inspect([path])).datasets[path].snapshots]
    assert guids == [first.guid, third.guid]


async def test_a_snapshot_of_the_same_name_is_taken_once(storage: Storage, tree: Path) -> None:
    path = await live(storage, tree)
    name = new_name()
    first = await storage.snapshot(path, name, TAG)
    Path(storage.rootfs(path), "new").write_text("new")
    assert (await storage.snapshot(path, name, TAG)).guid == first.guid


async def test_two_snapshots_at_once_lose_nothing(storage: Storage, tree: Path) -> None:
    path = await live(storage, tree)
    await storage.settle(path, new_name())
    Path(storage.rootfs(path), "new").write_text("new")
    taken = await asyncio.gather(
        *(storage.snapshot(path, new_name(), f"hoody-{new_id()}") for _ in range(4))
    )
    dataset = (await storage.inspect([path])).datasets[path]
    assert {one.guid for one in taken} == {taken[0].guid}
    assert dataset.head is not None
    assert (dataset.head.guid, dataset.head.holds) == (taken[0].guid, 4)


async def test_a_write_right_before_is_in_the_snapshot(storage: Storage, tree: Path) -> None:
    path = await live(storage, tree)
    file = Path(storage.rootfs(path), "counter")
    seen: set[str] = set()
    for round_number in range(LOST_WRITE_ROUNDS):
        file.write_text(str(round_number))
        snapshot = await storage.snapshot(path, new_name(), TAG)
        assert snapshot.guid not in seen, f"round {round_number} was lost"
        seen.add(snapshot.guid)
    assert (await frozen_tree(storage, snapshot))["counter"][-1] == (
        str(LOST_WRITE_ROUNDS - 1).encode(),
        "counter",
    )


async def test_a_hold_keeps_a_snapshot(storage: Storage, tree: Path) -> None:
    path = await live(storage, tree)
    snapshot = await storage.snapshot(path, new_name(), TAG)
    other = f"hoody-{new_id()}"
    for _ in range(2):
        await storage.hold([snapshot.guid], other)
    for tag in (TAG, other):
        with pytest.raises(DatasetBusy):
            await storage.destroy_snapshot(path, snapshot.guid)
        for _ in range(2):
            await storage.release([snapshot.guid], tag)
    for _ in range(2):
        await storage.destroy_snapshot(path, snapshot.guid)
    assert (await storage.forest()).find(snapshot.guid) is None
    with pytest.raises(SnapshotMissing):
        await storage.hold([snapshot.guid], TAG)
    await storage.release([snapshot.guid], TAG)


@pytest.mark.parametrize(("deed", "holds"), [("hold", 2), ("release", 0), ("clone", 1)])
async def test_deeds_follow_a_retired_dataset(
    storage: Storage, tree: Path, deed: str, holds: int
) -> None:
    path, mirror = await live(storage, tree), f"mirrors/{new_id()}"
    snapshot = await storage.snapshot(path, new_name(), TAG)
    await storage.retire(path, mirror)
    clone = f"containers/{new_id()}/{new_id()}"
    if deed == "clone":
        await storage.clone(snapshot.guid, clone)
        assert (await storage.inspect([clone])).datasets[clone].origin == snapshot.guid
    else:
        verb = storage.hold if deed == "hold" else storage.release
        await verb([snapshot.guid], f"hoody-{new_id()}" if deed == "hold" else TAG)
    assert (await storage.inspect([mirror])).datasets[mirror].snapshots[0].holds == holds


async def test_clones_are_independent(storage: Storage, tree: Path) -> None:
    one = await live(storage, tree)
    snapshot = await storage.snapshot(one, new_name(), TAG)
    two = f"containers/{new_id()}/{new_id()}"
    for _ in range(2):
        await storage.clone(snapshot.guid, two)
    for _ in range(2):
        directory = await storage.mount(two)
    assert directory == storage.rootfs(two)
    assert storage.is_mounted(two)
    before = walk(storage.rootfs(one))
    assert walk(directory) == before
    Path(directory, "bin", "tool").write_bytes(b"changed")
    os.unlink(Path(directory, "etc", "hostname"))
    assert walk(storage.rootfs(one)) == before
    with pytest.raises(SnapshotMissing):
        await storage.clone("1", f"containers/{new_id()}/{new_id()}")


async def test_the_lineage_goes_to_the_root(storage: Storage, tree: Path) -> None:
    one = await live(storage, tree)
    first = await storage.snapshot(one, new_name(), TAG)
    two = f"containers/{new_id()}/{new_id()}"
    await storage.clone(first.guid, two)
    await storage.mount(two)
    Path(storage.rootfs(two), "two").write_text("two")
    second = await storage.snapshot(two, new_name(), TAG)
    forest = await storage.lineage([second.guid])
    chain = forest.lineage(second.guid)
    assert [one.guid for one in chain[:2]] == [second.guid, first.guid]
    whole = await storage.forest()
    assert forest.datasets.items() <= whole.datasets.items()
    if forest.datasets[two].origin is not None:
        assert forest.datasets[two].origin == first.guid
        assert len(chain) == 3
    assert await storage.lineage([second.guid, first.guid, "1"]) == forest
    for guids, paths in (([], [two]), ([first.guid, "1"], [two, f"mirrors/{new_id()}"])):
        assert await storage.lineage(guids, paths) == forest
    assert two not in (await storage.lineage([first.guid])).datasets
    assert (await storage.lineage(["1"])).datasets == {}
    assert (await storage.lineage([])).datasets == {}
    assert (await storage.inspect([f"mirrors/{new_id()}"])).datasets == {}


async def test_a_lineage_is_of_many_snapshots(storage: Storage, tree: Path) -> None:
    """Those of several branches, each dataset once; also when they have moved since."""
    trunk = await live(storage, tree)
    points: list[Snapshot] = []
    for name in ("one", "two"):
        Path(storage.rootfs(trunk), name).write_text(name)
        points.append(await storage.snapshot(trunk, new_name(), TAG))
    branches = [f"containers/{new_id()}/{new_id()}" for _ in points]
    tips: list[Snapshot] = []
    for path, point in zip(branches, points, strict=True):
        await storage.clone(point.guid, path)
        await storage.mount(path)
        Path(storage.rootfs(path), "tip").write_text(path)
        tips.append(await storage.snapshot(path, new_name(), TAG))
    image = (await storage.inspect([trunk])).datasets[trunk].origin
    forest = await storage.lineage([tip.guid for tip in tips])
    assert forest.datasets.keys() >= {trunk, *branches}
    for tip, point in zip(tips, points, strict=True):
        chain = [one.guid for one in forest.lineage(tip.guid)]
        assert chain[:2] == [tip.guid, point.guid]
        assert chain[-1] == image
    moved = f"mirrors/{new_id()}"
    await storage.retire(branches[0], moved)
    forest = await storage.lineage([tips[0].guid])
    assert moved in forest.datasets
    assert not forest.datasets.keys() & set(branches)


async def test_settle_and_written(storage: Storage, tree: Path) -> None:
    path = await live(storage, tree)
    name = new_name()
    assert await storage.written(path, new_name())
    for _ in range(2):
        await storage.settle(path, name)
    for _ in range(2):
        assert not await storage.written(path, new_name())
    Path(storage.rootfs(path), "etc", "hostname").read_text()
    assert not await storage.written(path, new_name())
    Path(storage.rootfs(path), "etc", "hostname").write_text("two\n")
    assert await storage.written(path, new_name())


async def test_unmounting(storage: Storage, tree: Path) -> None:
    path = await live(storage, tree)
    for _ in range(2):
        await storage.unmount(path)
    assert not storage.is_mounted(path)
    await storage.mount(path)
    assert Path(storage.rootfs(path), "etc", "hostname").read_text() == "one\n"


async def test_retire_trim_and_destroy(storage: Storage, tree: Path) -> None:
    path, mirror = await live(storage, tree), f"mirrors/{new_id()}"
    snapshot = await storage.snapshot(path, new_name(), TAG)
    frozen = await frozen_tree(storage, snapshot)
    Path(storage.rootfs(path), "after").write_bytes(os.urandom(4 << 20))
    for _ in range(2):
        await storage.retire(path, mirror)
    assert not os.path.exists(storage.rootfs(path))
    dataset = (await storage.inspect([path, mirror])).datasets
    assert list(dataset) == [mirror]
    for _ in range(2):
        await storage.trim(mirror)
    trimmed = (await storage.inspect([mirror])).datasets[mirror]
    assert not trimmed.head_differs
    assert await frozen_tree(storage, snapshot) == frozen
    with pytest.raises(DatasetBusy):
        await storage.destroy(mirror)
    await storage.release([snapshot.guid], TAG)
    for one in trimmed.snapshots:
        await storage.destroy_snapshot(mirror, one.guid)
    for _ in range(2):
        await storage.destroy(mirror)
    assert mirror not in (await storage.forest()).datasets


async def test_destroying_leaves_no_directory(storage: Storage, tree: Path) -> None:
    path = await live(storage, tree)
    for _ in range(2):
        await storage.destroy(path)
    assert not os.path.exists(storage.rootfs(path))
    assert not os.path.exists(os.path.dirname(storage.rootfs(path)))
    assert path not in (await storage.forest()).datasets


async def test_capacity_and_read_check(storage: Storage, tree: Path) -> None:
    await live(storage, tree)
    capacity = await storage.capacity()
    assert 0 < capacity.available_bytes <= capacity.total_bytes
    assert capacity.used_bytes + capacity.available_bytes <= capacity.total_bytes
    await storage.read_check()


async def test_traits_are_the_same_when_opened_again(storage: Storage, tmp_path: Path) -> None:
    traits = await storage.traits()
    root = "contract" if traits.kind == "zfs" else str(tmp_path / "root")
    folders = [str(tmp_path / folder) for folder in ("mount", "locks")]
    again = await open_storage(traits.kind, root, *folders)
    assert await again.traits() == traits
    assert os.listdir(tmp_path / "mount") == []
    assert (await again.forest()).datasets == {}


async def test_a_missing_root_is_an_error(storage: Storage, tmp_path: Path) -> None:
    kind = (await storage.traits()).kind
    root = "contract/nowhere" if kind == "zfs" else str(tmp_path / "nowhere")
    with pytest.raises(StorageError):
        await open_storage(kind, root, str(tmp_path / "mount"), str(tmp_path / "locks"))
