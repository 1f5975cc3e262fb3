"""A storage takes in archives as it takes in directories: run for each backend."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests import tarballs
from tests.trees import Facts, listing, make_tree
from transfer.errors import (
    ArchiveInvalid,
    InsufficientStorage,
    SourcePathInvalid,
    StorageError,
)
from transfer.model import Snapshot
from transfer.storage import open_storage
from transfer.storage.base import Storage

KINDS = [pytest.param("zfs", marks=pytest.mark.zfs), pytest.param("dir")]


def new_path() -> str:
    return f"images/{secrets.token_hex(12)}"


def new_name() -> str:
    return f"h-{secrets.token_hex(12)}"


def nothing(_count: int) -> None:
    """Takes note of no byte."""


@pytest.fixture(params=KINDS)
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Storage]:
    kind = request.param
    if kind == "zfs":
        make: Callable[[str], str] = request.getfixturevalue("zfs_pool")
        root = make("unpacks")
    else:
        root = str(tmp_path / "root")
        os.mkdir(root)
    for folder in ("mount", "locks"):
        os.mkdir(tmp_path / folder)
    yield await open_storage(kind, root, str(tmp_path / "mount"), str(tmp_path / "locks"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    made = tmp_path / "tree"
    made.mkdir()
    make_tree(made)
    return made


def written(tmp_path: Path, content: bytes) -> str:
    path = tmp_path / "image.tar"
    path.write_bytes(content)
    return str(path)


async def in_seconds(storage: Storage, facts: dict[str, Facts]) -> dict[str, Facts]:
    """A listing as fine as the storage keeps times."""
    grain = (await storage.traits()).mtime_ns
    return {name: (*one[:3], int(str(one[3])) // grain, *one[4:]) for name, one in facts.items()}


async def seen(storage: Storage, snapshot: Snapshot) -> dict[str, Facts]:
    """What a snapshot holds, through a clone of it."""
    path = f"containers/{secrets.token_hex(12)}/{secrets.token_hex(12)}"
    await storage.clone(snapshot.guid, path)
    try:
        return await in_seconds(storage, listing(Path(await storage.mount(path))))
    finally:
        await storage.unmount(path)
        await storage.destroy(path)


async def leaves_nothing(storage: Storage, path: str, tmp_path: Path) -> None:
    assert path not in (await storage.forest()).datasets
    assert await storage.foreign() == []
    assert os.listdir(tmp_path / "mount") == []
    assert [name for name in os.listdir(tmp_path / "locks") if "images" in name] == []
    if (tmp_path / "root").exists():
        assert os.listdir(tmp_path / "root" / "images") == []


@pytest.mark.parametrize("compression", ["plain", "zstd"])
async def test_an_archive_is_taken_in_as_its_tree_would_be(
    storage: Storage, tree: Path, tmp_path: Path, compression: str
) -> None:
    archive = written(tmp_path, tarballs.COMPRESSIONS[compression](tarballs.archive_of(tree)))
    counted: list[int] = []
    path, name = new_path(), new_name()
    taken = await storage.unpack(archive, path, name, counted.append)
    again = await storage.unpack(archive, path, name, counted.append)
    assert taken.guid == again.guid
    assert (taken.name, taken.dataset) == (name, path)
    assert sum(counted) >= 700_000
    assert await seen(storage, taken) == await in_seconds(storage, listing(tree))
    dataset = (await storage.inspect([path])).datasets[path]
    assert not dataset.partial
    assert not storage.is_mounted(path)
    assert 700_000 <= taken.referenced_bytes < 8 << 20
    directory = await storage.take_in(str(tree), new_path(), new_name(), nothing)
    assert await seen(storage, directory) == await seen(storage, taken)


async def test_a_bad_archive_leaves_nothing(storage: Storage, tree: Path, tmp_path: Path) -> None:
    whole = tarballs.archive_of(tree)
    outward = tarballs.archive([tarballs.file("etc/x"), tarballs.file("../x")])
    for content in (whole[: len(whole) // 2], outward, b"no archive", b""):
        path = new_path()
        with pytest.raises(ArchiveInvalid, match=r"image\.tar"):
            await storage.unpack(written(tmp_path, content), path, new_name(), nothing)
        await leaves_nothing(storage, path, tmp_path)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("bad", ["missing", "directory"])
async def test_what_is_no_file_is_no_archive(storage: Storage, tmp_path: Path, bad: str) -> None:
    (tmp_path / "directory").mkdir()
    path = new_path()
    with pytest.raises(SourcePathInvalid, match="no readable file"):
        await storage.unpack(str(tmp_path / bad), path, new_name(), nothing)
    await leaves_nothing(storage, path, tmp_path)


async def test_a_bomb_leaves_nothing(storage: Storage, tmp_path: Path) -> None:
    """It says at once that it holds more than there is room for."""
    header = tarballs.file("zeros")[0]
    header.size = (await storage.capacity()).available_bytes + (1 << 30)
    archive = written(tmp_path, header.tobuf() + bytes(1 << 20))
    path, counted = new_path(), list[int]()
    with pytest.raises(InsufficientStorage):
        await storage.unpack(archive, path, new_name(), counted.append)
    assert not counted
    await leaves_nothing(storage, path, tmp_path)


@pytest.mark.zfs
async def test_a_bomb_of_many_files_leaves_nothing(
    zfs_pool: Callable[..., str], tmp_path: Path
) -> None:
    for folder in ("mount", "locks"):
        os.mkdir(tmp_path / folder)
    root = zfs_pool("small", size_bytes=64 << 20)
    storage = await open_storage("zfs", root, str(tmp_path / "mount"), str(tmp_path / "locks"))
    entries = [tarballs.file(f"f{n}", bytes(1 << 20)) for n in range(80)]
    bomb = tarballs.COMPRESSIONS["zstd"](tarballs.archive(entries))
    assert len(bomb) < 1 << 20
    path = new_path()
    with pytest.raises(InsufficientStorage):
        await storage.unpack(written(tmp_path, bomb), path, new_name(), nothing)
    await leaves_nothing(storage, path, tmp_path)


@pytest.mark.zfs
async def test_a_storage_that_is_full_leaves_nothing(
    zfs_pool: Callable[..., str], tmp_path: Path
) -> None:
    """What is counted fits, and yet there is no room: others have taken it meanwhile."""
    for folder in ("mount", "locks"):
        os.mkdir(tmp_path / folder)
    root = zfs_pool("small", size_bytes=64 << 20)
    storage = await open_storage("zfs", root, str(tmp_path / "mount"), str(tmp_path / "locks"))
    room = (await storage.capacity()).available_bytes
    entries = [tarballs.file(f"f{n}", os.urandom(1 << 20)) for n in range((room >> 20) - 1)]
    archive = written(tmp_path, tarballs.archive(entries))
    other = f"mirrors/{secrets.token_hex(12)}"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "big").write_bytes(os.urandom(8 << 20))
    path = new_path()

    taken = False

    def take_room(_count: int) -> None:
        """In the thread that unpacks, once: fills what was counted as free."""
        nonlocal taken
        if not taken:
            taken = True
            Path(storage.rootfs(path), "more").write_bytes(os.urandom(8 << 20))

    with pytest.raises(InsufficientStorage):
        await storage.unpack(archive, path, new_name(), take_room)
    await leaves_nothing(storage, path, tmp_path)
    await storage.take_in(str(tmp_path / "other"), other, new_name(), nothing)


async def test_another_ones_dataset_is_left_alone(
    storage: Storage, tree: Path, tmp_path: Path
) -> None:
    archive = written(tmp_path, tarballs.archive_of(tree))
    path, name = new_path(), new_name()
    taken = await storage.unpack(archive, path, name, nothing)
    with pytest.raises(StorageError):
        await storage.unpack(written(tmp_path, b"no archive"), path, new_name(), nothing)
    assert (await storage.inspect([path])).datasets[path].head == taken
