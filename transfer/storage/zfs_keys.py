"""The keys of encrypted datasets. What came from another server is encrypted by a key that this
one need not have; where it has it, the root's property `hoody:keylocation` says where."""

from __future__ import annotations

from collections.abc import Sequence

from transfer.errors import KeyUnavailable
from transfer.storage import zfs_text
from transfer.storage.zfs_command import Zfs


class ZfsKeys:
    """Loads keys of datasets of `zfs` from `location`, a URL as `zfs load-key -L` takes it."""

    def __init__(self, zfs: Zfs, location: str | None) -> None:
        self._zfs = zfs
        self._location = location

    async def do(self, dataset_name: str, *arguments: str, harmless: Sequence[str] = ()) -> None:
        """As `Zfs.do`, for what needs the key of a dataset: loads it where it is not loaded.

        Raises KeyUnavailable where the key is not here, or is another one.
        """
        try:
            await self._zfs.do(*arguments, harmless=harmless)
        except KeyUnavailable:
            if self._location is None:
                raise
            await self._load(dataset_name, self._location)
            await self._zfs.do(*arguments, harmless=harmless)

    async def _load(self, dataset_name: str, location: str) -> None:
        rows = await self._zfs.properties([dataset_name], [zfs_text.KEY_ROOT])
        key_root = rows[dataset_name][zfs_text.KEY_ROOT]
        # Another process may load it at the same moment.
        await self._zfs.do(
            "load-key", "-L", location, key_root, harmless=["already loaded", "attempted to load"]
        )
