"""Where the datasets of a ZFS root are mounted. Nothing here is ever unmounted by force:
`zfs unmount -f` wedges every mount of zfs-fuse."""

from __future__ import annotations

import contextlib
import os

from transfer import command
from transfer.errors import StorageError
from transfer.storage.zfs_command import ASK_SECONDS, Zfs
from transfer.storage.zfs_keys import ZfsKeys
from transfer.storage.zfs_proc import mounted

SYNC_SECONDS = 300.0


class ZfsMounts:
    """Mounts datasets of `zfs` under `mount_root`."""

    def __init__(self, zfs: Zfs, mount_root: str, keys: ZfsKeys) -> None:
        self._zfs = zfs
        self._keys = keys
        self.mount_root = mount_root

    def rootfs(self, path: str) -> str:
        """Where `mount` puts a dataset: a container's generation where users find it, another
        one out of sight, for what is taken in."""
        kind, _, rest = path.partition("/")
        below = rest if kind == "containers" else f".{kind}/{rest}"
        return os.path.join(self.mount_root, below)

    def is_mounted(self, path: str) -> bool:
        """Whether it is mounted where `mount` puts it, as this process sees it."""
        return (self._zfs.name(path), self.rootfs(path)) in mounted()

    async def mount(self, path: str) -> str:
        """Mounts it, if it is not; returns the directory. Raises KeyUnavailable."""
        directory = self.rootfs(path)
        if not self.is_mounted(path):
            os.makedirs(directory, mode=0o711, exist_ok=True)
            name = self._zfs.name(path)
            await self._keys.do(name, "mount", name, harmless=["already mounted"])
            if not self.is_mounted(path):
                raise StorageError(f"{path} is mounted elsewhere than at {directory}", dataset=path)
        return directory

    async def unmount(self, path: str) -> None:
        """Unmounts it, if it is mounted. Raises DatasetBusy where a file is open in it."""
        if self.is_mounted(path):
            name = self._zfs.name(path)
            await self._zfs.do("unmount", name, harmless=["not currently mounted"])

    async def flush(self, path: str) -> None:
        """Hands what the kernel still has of a mounted dataset's files (mmap) to the storage."""
        if self.is_mounted(path):
            argv = ["sync", "--file-system", self.rootfs(path)]
            output = await command.run(argv, deadline_seconds=SYNC_SECONDS)
            if output.status != 0:
                raise StorageError(f"cannot sync {path}: {output.stderr.strip()}", dataset=path)

    def forget(self, path: str) -> None:
        """Removes the empty directory of an unmounted dataset, and its parent if that is empty."""
        directory = self.rootfs(path)
        for empty in (directory, os.path.dirname(directory)):
            # Not empty, or not there: both are fine. zfs removes the first one itself at times.
            with contextlib.suppress(OSError):
                os.rmdir(empty)

    async def read_check(self) -> None:
        """Asks one mount of ours, if there is one, in a child that can be killed."""
        directory = next(
            (at for name, at in mounted() if name.startswith(self._zfs.root + "/")), None
        )
        if directory is not None:
            argv = ["stat", "--file-system", "--format=%a", directory]
            output = await command.run(argv, deadline_seconds=ASK_SECONDS)
            if output.status != 0:
                raise StorageError(f"cannot read {directory}: {output.stderr.strip()}")
