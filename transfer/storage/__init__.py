"""Storage backends. The map:

base         the protocols `Source` and `Storage`
zfs          datasets and native streams of ZFS; its parts are `zfs_*`
directory    trees and sidecars on any filesystem; its parts are `directory_*`
locks        locks between the processes of one server
private_zfs  a zfs-fuse of one's own, for tests and the demo
"""

from __future__ import annotations

from transfer.errors import StorageError
from transfer.storage.base import Storage
from transfer.storage.directory import DirectoryStorage
from transfer.storage.zfs import ZfsStorage


async def open_storage(kind: str, root: str, mount_root: str, lock_dir: str) -> Storage:
    """Opens the backend `kind` (`zfs`: root is a dataset, `dir`: a directory; both must exist).

    `mount_root` is where live trees appear, `lock_dir` a directory for lock files that all
    processes of this server share. Raises StorageError.
    """
    if kind == "zfs":
        return await ZfsStorage.open(root, mount_root, lock_dir)
    if kind == "dir":
        return await DirectoryStorage.open(root, mount_root, lock_dir)
    raise StorageError(f"no storage backend {kind!r}", kind=kind)
