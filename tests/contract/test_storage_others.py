"""What a storage has beside what it is asked for: others' datasets, others' needs. Run for each
backend."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from tests.contract.test_storage import TAG, live, new_name, storage, tree
from transfer.errors import DatasetBusy
from transfer.storage.base import Storage

__all__ = ["storage", "tree"]  # fixtures


async def test_what_is_needed_in_the_last_moment_stays(storage: Storage, tree: Path) -> None:
    """It is asked when nobody holds it, and nobody can take it again before it is gone."""
    path = await live(storage, tree)
    snapshot = await storage.snapshot(path, new_name(), TAG)
    answers, retaken = [False, True], []

    async def needed() -> bool:
        retaken.append(asyncio.create_task(storage.snapshot(path, new_name(), TAG)))
        return answers.pop()

    with pytest.raises(DatasetBusy):
        await storage.destroy_snapshot(path, snapshot.guid, needed)
    assert retaken == [], "it is held"
    await storage.release([snapshot.guid], TAG)
    with pytest.raises(DatasetBusy):
        await storage.destroy_snapshot(path, snapshot.guid, needed)
    assert (await retaken.pop()).guid == snapshot.guid
    await storage.release([snapshot.guid], TAG)
    await storage.destroy_snapshot(path, snapshot.guid, needed)
    (again,) = await asyncio.gather(*retaken)
    assert again.guid != snapshot.guid
    assert [one.guid for one in (await storage.forest()).snapshots() if one.holds] == [again.guid]


async def test_what_is_not_ours_is_told(storage: Storage, tree: Path, tmp_path: Path) -> None:
    """Beside datasets and in their folders; the folders themselves are ours."""
    path = await live(storage, tree)
    assert await storage.foreign() == []
    container = path.rpartition("/")[0]
    root = tmp_path / "root"
    for name in ("backup", "mirrors/old", f"{container}/by-hand"):
        if root.exists():
            (root / name).mkdir()
        else:
            argv = ["zfs", "create", f"contract/{name}"]
            await asyncio.to_thread(subprocess.run, argv, check=True, timeout=60)
    expected = ["backup", f"{container}/by-hand", "mirrors/old"]
    assert await storage.foreign() == expected
    await storage.forest()
