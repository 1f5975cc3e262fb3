"""A dir storage whose clones pin what they were made from, as zfs's do.

What collect does about husks can be driven through years by it, in the time that zfs takes for a
month: a command of zfs-fuse waits for a transaction group. That zfs itself behaves so is tested
on zfs (`test_storage_promote.py`, `test_collect_husks.py`).
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace

from transfer.errors import DatasetBusy
from transfer.model import Guid, Traits
from transfer.storage.base import Unless
from transfer.storage.directory import DirectoryStorage
from transfer.storage.directory_layout import write_record


class PinningStorage(DirectoryStorage):
    """Refuses to destroy a snapshot that has a clone, and promotes."""

    promotions = 0

    async def traits(self) -> Traits:
        return replace(await super().traits(), clones_pin=True)

    async def destroy_snapshot(self, path: str, guid: Guid, unless: Unless | None = None) -> None:
        clones = [dataset.path for dataset in await self.forest() if dataset.origin == guid]
        if clones:
            raise DatasetBusy(f"{path} has clones of {guid}", clones=clones)
        await super().destroy_snapshot(path, guid, unless)

    async def promote(self, path: str, guid: Guid) -> None:
        await asyncio.to_thread(self._turn_round, path, guid)
        self.promotions += 1

    def _turn_round(self, path: str, guid: Guid) -> None:
        layout, origin = self._layout, self._layout.require(guid)
        clone, husk = layout.read(path), layout.read(origin.path)
        assert clone is not None
        assert husk is not None
        if clone.origin != guid:
            raise DatasetBusy(f"{path} is no clone of {guid}")
        first = clone.snapshots[0].order if clone.snapshots else 1
        for snapshot in husk.snapshots:
            if snapshot.order <= origin.record.order:
                found = layout.located(husk.path, snapshot.name)
                assert found is not None
                order = snapshot.order - origin.record.order + first - 1
                os.rename(found.directory, layout.snapshot(path, snapshot.name))
                at = os.path.join(layout.snapshot(path, snapshot.name), "snapshot.json")
                write_record(at, replace(found.record, order=order))
        for dataset, other in ((path, husk.origin), (husk.path, guid)):
            record = replace(layout.dataset_record(dataset), origin=other)
            write_record(os.path.join(layout.dataset(dataset), "dataset.json"), record)
