"""Where the datasets of a ZFS root are mounted. Nothing here is ever unmounted by force:
`zfs unmount -f` wedges every mount of zfs-fuse."""

from __future__ import annotations

import contextlib
import os

from transfer import command
from transfer.errors import StorageError
from transfer.storage import zfs_text
from transfer.storage.zfs_command import ASK_SECONDS, Zfs
from transfer.storage.zfs_keys import ZfsKeys
from transfer.storage.zfs_proc import mounted, read_only

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
        """Mounts it, to be written, if it is not; returns the directory. Raises KeyUnavailable."""
        directory = self.rootfs(path)
        if not self.is_mounted(path):
            os.makedirs(directory, mode=0o711, exist_ok=True)
            await self._mount(self._zfs.name(path))
            if not self.is_mounted(path):
                raise StorageError(f"{path} is mounted elsewhere than at {directory}", dataset=path)
        if (self._zfs.name(path), directory) in read_only():
            await self._zfs.do("mount", "-o", "remount,rw", self._zfs.name(path))
        return directory

    async def _mount(self, name: str) -> None:
        """What is encrypted is mounted to be read only, at first. A mount to be written starts to
        count what each user has, and so writes what the mount itself still reads; 2.1 may then
        fall over a buffer that is being written (openzfs/zfs#9046, mended by #16104)."""
        options = ("-o", "ro") if await self._is_encrypted(name) else ()
        await self._keys.do(name, "mount", *options, name, harmless=["already mounted"])

    async def _is_encrypted(self, name: str) -> bool:
        if zfs_text.ENCRYPTION not in self._zfs.asked:
            return False
        rows = await self._zfs.properties([name], [zfs_text.ENCRYPTION])
        return rows.get(name, {}).get(zfs_text.ENCRYPTION, "off") != "off"

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
