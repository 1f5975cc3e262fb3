"""What is asked for by guid is found where a retired dataset's snapshots have gone, though they
were seen elsewhere last. Run for each backend."""

from __future__ import annotations

from pathlib import Path

from tests.contract.test_storage import TAG, live, new_id, new_name, storage, tree
from transfer.storage.base import Storage

__all__ = ["storage", "tree"]  # fixtures


async def test_a_release_follows_a_retired_dataset(storage: Storage, tree: Path) -> None:
    path, mirror = await live(storage, tree), f"mirrors/{new_id()}"
    snapshot = await storage.snapshot(path, new_name(), TAG)
    await storage.retire(path, mirror)
    await storage.release([snapshot.guid], TAG)
    assert (await storage.inspect([mirror])).datasets[mirror].snapshots[0].holds == 0


async def test_a_clone_follows_a_retired_dataset(storage: Storage, tree: Path) -> None:
    path, mirror = await live(storage, tree), f"mirrors/{new_id()}"
    snapshot = await storage.snapshot(path, new_name(), TAG)
    await storage.retire(path, mirror)
    clone = f"containers/{new_id()}/{new_id()}"
    await storage.clone(snapshot.guid, clone)
    assert (await storage.inspect([clone])).datasets[clone].origin == snapshot.guid
