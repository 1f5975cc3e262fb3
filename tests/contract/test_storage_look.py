"""Looks at a live tree: each change is noticed once, and reading is none. Run for each backend."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.test_storage import TAG, live, new_id, new_name, storage, tree
from transfer.errors import StorageError
from transfer.storage.base import Storage

__all__ = ["storage", "tree"]  # fixtures


async def settled(storage: Storage, tree: Path) -> tuple[str, Path]:
    """A new generation's path, and its live tree."""
    path = await live(storage, tree)
    await storage.settle(path, new_name())
    return path, Path(storage.rootfs(path))


async def changed(storage: Storage, path: str) -> bool:
    return (await storage.look(path, new_name())).changed


def grow(top: Path) -> None:
    (top / "new").write_text("new")


def rewrite(top: Path) -> None:
    """Other content of the same size and with the same time."""
    file = top / "etc" / "hostname"
    seen = file.stat()
    file.write_text("two\n")
    os.utime(file, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def remove(top: Path) -> None:
    (top / "sparse").unlink()


def open_up(top: Path) -> None:
    (top / "bin").chmod(0o777)


@pytest.mark.parametrize("write", [grow, rewrite, remove, open_up])
async def test_a_change_is_noticed_once(
    storage: Storage, tree: Path, write: Callable[[Path], None]
) -> None:
    path, top = await settled(storage, tree)
    assert not await changed(storage, path)
    write(top)
    assert await changed(storage, path)
    for _ in range(2):
        assert not await changed(storage, path)
    (top / "another").write_text("later")
    assert await changed(storage, path)
    assert not await changed(storage, path)


async def test_reading_is_no_change(storage: Storage, tree: Path) -> None:
    path, top = await settled(storage, tree)
    for _ in range(2):
        (top / "bin" / "tool").read_bytes()
        os.listdir(top / "etc")
        assert not await changed(storage, path)


async def test_what_a_snapshot_has_is_known(storage: Storage, tree: Path) -> None:
    path, top = await settled(storage, tree)
    (top / "new").write_text("new")
    first = await storage.snapshot(path, new_name(), TAG)
    assert not await changed(storage, path)
    (top / "new").write_text("newer")
    seen = (top / "new").stat()
    assert await changed(storage, path)
    (top / "new").write_text("newest")
    second = await storage.snapshot(path, new_name(), TAG)
    assert second.guid != first.guid
    # Back to what the last look, but not the newest snapshot has seen.
    (top / "new").write_text("newer")
    os.utime(top / "new", ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert await changed(storage, path)
    assert not await changed(storage, path)


async def test_a_snapshot_of_what_a_look_saw_is_whole(storage: Storage, tree: Path) -> None:
    path, top = await settled(storage, tree)
    (top / "new").write_text("new")
    assert await changed(storage, path)
    taken = await storage.snapshot(path, new_name(), TAG)
    again = f"containers/{new_id()}/{new_id()}"
    await storage.clone(taken.guid, again)
    assert (Path(await storage.mount(again)) / "new").read_text() == "new"


async def test_without_the_state_that_a_look_saw_it_finds_a_change(
    storage: Storage, tree: Path
) -> None:
    """It may say so too often, never too seldom."""
    path, top = await settled(storage, tree)
    (top / "new").write_text("new")
    found = await storage.look(path, new_name())
    needs_snapshot = found.snapshot is not None
    await storage.destroy_snapshot(path, found.snapshot or "")
    assert await changed(storage, path) is needs_snapshot


async def test_what_is_not_there_cannot_be_looked_at(storage: Storage) -> None:
    with pytest.raises(StorageError):
        await storage.look(f"containers/{new_id()}/{new_id()}", new_name())
