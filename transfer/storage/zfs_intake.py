"""Taking a directory or an archive of this machine in as a new, frozen dataset."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable

from transfer.errors import InsufficientStorage, SourcePathInvalid, StorageError
from transfer.model import Snapshot
from transfer.storage import zfs_text
from transfer.storage.base import OnBytes
from transfer.storage.zfs_command import Zfs
from transfer.storage.zfs_mounts import ZfsMounts
from transfer.tree.copy import copy_tree
from transfer.tree.unpack import check_archive, unpack_tree

_FULL = (errno.ENOSPC, errno.EDQUOT)

Fill = Callable[[str], None]
"""Puts a tree into a directory; blocks."""


class ZfsIntake:
    """Makes datasets of `zfs` from directories and archives."""

    def __init__(self, zfs: Zfs, mounts: ZfsMounts) -> None:
        self._zfs = zfs
        self._mounts = mounts

    async def take_in(self, tree: str, path: str, name: str, on_bytes: OnBytes) -> Snapshot:
        """As `Storage.take_in`."""
        done = await self._done(path, name)
        if done is not None:
            return done
        self._check(tree)

        def fill(directory: str) -> None:
            try:
                copy_tree(tree, directory, on_bytes)
            except OSError as error:
                if error.errno in _FULL:
                    raise InsufficientStorage(f"no room to take in {tree}", path=tree) from error
                raise SourcePathInvalid(
                    f"cannot take in {tree}: {error.strerror}", path=tree, at=str(error.filename)
                ) from error

        return await self._made(path, name, fill)

    async def unpack(
        self, archive: str, path: str, name: str, on_bytes: OnBytes, bytes_max: int
    ) -> Snapshot:
        """As `Storage.unpack`, for an archive that holds no more than `bytes_max`."""
        done = await self._done(path, name)
        if done is not None:
            return done
        check_archive(archive)

        def fill(directory: str) -> None:
            try:
                unpack_tree(archive, directory, bytes_max, on_bytes)
            except OSError as error:
                why = f"cannot unpack {archive}: {error.strerror}"
                if error.errno in _FULL:
                    raise InsufficientStorage(why, path=archive) from error
                raise StorageError(why, path=archive, at=str(error.filename)) from error

        return await self._made(path, name, fill)

    async def _done(self, path: str, name: str) -> Snapshot | None:
        """What an earlier attempt has finished."""
        here = await self._zfs.find(path)
        if here is None or here.partial:
            return None
        done = next((one for one in here.snapshots if one.name == name), None)
        if done is None:
            raise StorageError(f"{path} exists and is not {name}", dataset=path)
        return done

    async def _made(self, path: str, name: str, fill: Fill) -> Snapshot:
        """The new dataset, filled and frozen. It is marked partial until it is frozen, and goes
        where that fails."""
        await self._discard(path)
        async with contextlib.AsyncExitStack() as on_failure:
            on_failure.push_async_callback(self._discard, path)
            await self._fill(path, fill)
            snapshot = await self._freeze(path, name)
            on_failure.pop_all()
        return snapshot

    def _check(self, tree: str) -> None:
        if not os.path.isabs(tree) or os.path.realpath(tree) != os.path.normpath(tree):
            raise SourcePathInvalid(f"{tree} is not an absolute path without links", path=tree)
        if not os.path.isdir(tree) or not os.access(tree, os.R_OK | os.X_OK):
            raise SourcePathInvalid(f"{tree} is not a readable directory", path=tree)
        mount_root = os.path.realpath(self._mounts.mount_root)
        if os.path.commonpath([tree, mount_root]) == os.path.normpath(tree):
            raise SourcePathInvalid(f"{tree} contains the storage itself", path=tree)

    async def _fill(self, path: str, fill: Fill) -> None:
        properties = {
            zfs_text.PARTIAL: "on",
            "canmount": "noauto",
            "mountpoint": self._mounts.rootfs(path),
            "readonly": "off",
        }
        options = [part for key, value in properties.items() for part in ("-o", f"{key}={value}")]
        await self._zfs.do("create", *options, self._zfs.name(path))
        directory = await self._mounts.mount(path)
        await asyncio.to_thread(fill, directory)
        await self._mounts.flush(path)

    async def _freeze(self, path: str, name: str) -> Snapshot:
        dataset_name = self._zfs.name(path)
        await self._mounts.unmount(path)
        self._mounts.forget(path)
        for key in ("mountpoint", "readonly"):
            await self._zfs.do("inherit", key, dataset_name)
        await self._zfs.do("snapshot", f"{dataset_name}@{name}")
        snapshot = (await self._zfs.get(path)).snapshots[-1]
        await self._zfs.do("set", f"{zfs_text.HEAD}={snapshot.guid}", dataset_name)
        await self._zfs.do("inherit", zfs_text.PARTIAL, dataset_name)
        return snapshot

    async def _discard(self, path: str) -> None:
        """Destroys a half-made dataset; nothing where there is none. Nobody has a clone of it."""
        await self._mounts.unmount(path)
        await self._zfs.do(
            "destroy", "-r", self._zfs.name(path), harmless=["dataset does not exist"]
        )
        self._mounts.forget(path)
