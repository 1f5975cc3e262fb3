"""A `Storage` on the `zfs` command. The map:

zfs_text     pure: what the command says -> datasets, errors
zfs_stream   pure: the head of a native stream
zfs_command  running `zfs` under the root: questions, deeds tried again while busy
zfs_mounts   mounting, unmounting, flushing
zfs_keys     keys of encrypted datasets
zfs_proc     what runs and is mounted, by /proc
zfs_busy     pure: why a dataset is busy
zfs_stale    ending a receive that nobody feeds any more
zfs_traits   what the filesystems can do, tried once
zfs_features what the program and the pool do beyond zfs-fuse
zfs_settings pure: the few properties that go with a dataset
zfs_take     snapshots of live datasets, and whether one has changed
zfs_send     native streams out, and their size before
zfs_receive  native streams in, and what is undone when one fails
zfs_intake   a directory or an archive of this machine in

Layout: `<root>/mirrors` and `<root>/images` have mountpoint=none and readonly=on, which what is
received inherits, so that nothing below is ever mounted or written. Everything has atime=off: a
single read with atime on makes a source look changed.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import replace

from transfer import command
from transfer.errors import (
    CommandFailed,
    DatasetBusy,
    DatasetMissing,
    SnapshotMissing,
    StorageError,
)
from transfer.model import Capacity, Dataset, Forest, Guid, Look, Snapshot, Step, Traits
from transfer.storage import zfs_text, zfs_traits
from transfer.storage.base import OnBytes, Unless
from transfer.storage.locks import locked
from transfer.storage.zfs_command import ASK_SECONDS, Zfs
from transfer.storage.zfs_features import Features
from transfer.storage.zfs_intake import ZfsIntake
from transfer.storage.zfs_keys import ZfsKeys
from transfer.storage.zfs_mounts import ZfsMounts
from transfer.storage.zfs_receive import ZfsReceiver
from transfer.storage.zfs_send import ZfsSender
from transfer.storage.zfs_take import ZfsTaker
from transfer.storage.zfs_tree import ZfsTree

_FROZEN = ("-o", "canmount=off", "-o", "mountpoint=none", "-o", "atime=off")
_FOLDERS = {
    "containers": _FROZEN,
    "mirrors": (*_FROZEN, "-o", "readonly=on"),
    "images": (*_FROZEN, "-o", "readonly=on"),
}

# Said of a snapshot that has been renamed since it was seen.
_GONE = (SnapshotMissing, DatasetMissing)

Known = tuple[Traits, Features]


class ZfsStorage(ZfsTree):
    """A server's storage under one root dataset."""

    def __init__(
        self, zfs: Zfs, mount_root: str, lock_dir: str, known: Known, key_location: str | None
    ) -> None:
        traits, features = known
        self._zfs = zfs
        self._keys = ZfsKeys(zfs, key_location)
        self._mounts = ZfsMounts(zfs, mount_root, self._keys)
        self._lock_dir = lock_dir
        self._traits = replace(traits, unlocks=key_location is not None)
        self._taker = ZfsTaker(zfs, self._mounts, lock_dir, bookmarks=traits.bookmarks)
        self._sender = ZfsSender(zfs, features)
        self._receiver = ZfsReceiver(zfs, lock_dir, features)
        self._intake = ZfsIntake(zfs, self._mounts)

    @classmethod
    async def open(cls, root: str, mount_root: str, lock_dir: str) -> ZfsStorage:
        """Opens the storage under the existing dataset `root` and makes what it needs there.

        Raises DatasetMissing where there is no root, PermissionMissing where root has to open it
        first (`zfs_traits`); that done, any user can, who then may do what `zfs allow` says.
        """
        zfs = Zfs(root)
        names = [root, *(zfs.name(folder) for folder in _FOLDERS)]
        there = await zfs.properties(names, ["guid", zfs_text.KEY_LOCATION])
        if root not in there:
            raise DatasetMissing(f"no ZFS dataset {root}", dataset=root)
        for folder, options in _FOLDERS.items():
            if zfs.name(folder) not in there:
                await zfs.do("create", *options, zfs.name(folder), harmless=["already exists"])
        location = there[root][zfs_text.KEY_LOCATION]
        key_location = None if location == "-" else location
        mounts = ZfsMounts(zfs, mount_root, ZfsKeys(zfs, key_location))
        known = await zfs_traits.detect(zfs, mounts, lock_dir)
        more = known[1].properties
        return cls(Zfs(root, more), mount_root, lock_dir, known, key_location)

    # What another server may ask.

    async def traits(self) -> Traits:
        return self._traits

    async def lineage(self, guids: Sequence[Guid], paths: Sequence[str] = ()) -> Forest:
        return await self._zfs.lineage(guids, paths)

    async def snapshot(self, path: str, name: str, tag: str) -> Snapshot:
        return await self._taker.snapshot(path, name, tag)

    async def unchanged(self, path: str, since: str, name: str) -> Guid | None:
        return await self._taker.unchanged(path, since, name)

    async def hold(self, guids: Sequence[Guid], tag: str) -> None:
        names = self._zfs.seen(guids)
        for _ in range(2):
            if names.keys() >= set(guids):
                # A name is given to one snapshot only: it is that one's still, or nobody's. (What
                # `settle` or `take_in` does again, nobody has been told of.)
                with contextlib.suppress(*_GONE):
                    await self._hold(names, tag)
                    return
            # A retire or promote may have renamed it since it was seen.
            names = await self._zfs.locate(guids)
        await self._hold(names, tag)

    async def _hold(self, names: Mapping[Guid, str], tag: str) -> None:
        if names:
            await self._zfs.do("hold", tag, *names.values(), harmless=["tag already exists"])

    async def release(self, guids: Sequence[Guid], tag: str) -> None:
        names = self._zfs.seen(guids)
        if not names.keys() >= set(guids):
            names = await self._zfs.locate_some(guids)
        for _ in range(2):
            if await self._release(names, tag):
                return
            # A retire or promote may have renamed it since it was seen.
            names = await self._zfs.locate_some(guids)
        await self._release(names, tag)

    async def _release(self, names: Mapping[Guid, str], tag: str) -> bool:
        """Whether all of them are there."""
        if not names:
            return True
        output = await self._zfs.ask("release", tag, *names.values())
        if not zfs_text.only_says(output, "no such tag", "does not exist"):
            raise zfs_text.failure(output)
        return "does not exist" not in output.stderr

    async def size(self, step: Step) -> int:
        return await self._sender.size(step)

    def send(self, step: Step) -> AsyncGenerator[bytes, None]:
        return self._sender.send(step)

    # The whole of the storage.

    async def forest(self) -> Forest:
        return await self._zfs.everything()

    async def foreign(self) -> list[str]:
        root = self._zfs.root
        return zfs_text.foreign(root, await self._zfs.properties([root], ["type"], "-r"))

    async def inspect(self, paths: Sequence[str]) -> Forest:
        return await self._zfs.datasets(paths)

    async def capacity(self) -> Capacity:
        root = self._zfs.root
        row = (await self._zfs.properties([root], ["available", "used"])).get(root)
        if row is None:
            raise DatasetMissing(f"no ZFS dataset {root}", dataset=root)
        available, used = int(row["available"]), int(row["used"])
        return Capacity(available + used, used, available)

    async def take_in(self, tree: str, path: str, name: str, on_bytes: OnBytes) -> Snapshot:
        return await self._intake.take_in(tree, path, name, on_bytes)

    async def unpack(self, archive: str, path: str, name: str, on_bytes: OnBytes) -> Snapshot:
        bytes_max = (await self.capacity()).available_bytes
        return await self._intake.unpack(archive, path, name, on_bytes, bytes_max)

    async def receive(self, step: Step, path: str, blocks: AsyncIterator[bytes]) -> Snapshot:
        async with locked(self._lock_dir, f"{path}.receive"):
            return await self._receiver.receive(step, path, blocks)

    async def resume_point(self, step: Step, path: str) -> Step | None:
        async with locked(self._lock_dir, f"{path}.receive"):
            return await self._receiver.resume_point(step, path)

    async def discard(self, path: str) -> None:
        async with locked(self._lock_dir, f"{path}.receive"):
            await self._receiver.discard(path)

    async def clone(
        self, guid: Guid, path: str, properties: Mapping[str, str] | None = None
    ) -> None:
        seen = [self._zfs.path(name) for name in self._zfs.seen([guid]).values()]
        found = await self._zfs.datasets([path, *seen])
        here = found.datasets.get(path)
        if here is not None:
            if here.origin != guid:
                raise DatasetBusy(f"{path} exists", dataset=path, origin=here.origin, planned=guid)
            return
        for _ in range(2):
            with contextlib.suppress(*_GONE):
                await self._clone(found, guid, path, properties or {})
                return
            # A retire or promote may have renamed it since it was seen.
            name = (await self._zfs.locate([guid]))[guid]
            found = await self._zfs.datasets([self._zfs.path(name)])
        await self._clone(found, guid, path, properties or {})

    async def _clone(
        self, found: Forest, guid: Guid, path: str, properties: Mapping[str, str]
    ) -> None:
        snapshot = found.find(guid)
        if snapshot is None:
            raise SnapshotMissing("the snapshot is gone", guids=[guid])
        given = {
            "canmount": "noauto",
            "mountpoint": self._mounts.rootfs(path),
            "readonly": "off",
            "atime": "off",
            **dict(found.datasets[snapshot.dataset].settings),
            **{f"hoody:{key}": value for key, value in properties.items()},
        }
        options = [part for key, value in given.items() for part in ("-o", f"{key}={value}")]
        origin = self._zfs.snapshot_name(snapshot)
        self._zfs.comes_to_stand(path, origin)
        # With `-p` the parent is made too. What it inherits is never mounted.
        names = ("-p", *options, origin, self._zfs.name(path))
        await self._keys.do(self._zfs.name(snapshot.dataset), "clone", *names)

    async def mount(self, path: str) -> str:
        return await self._mounts.mount(path)

    def rootfs(self, path: str) -> str:
        return self._mounts.rootfs(path)

    def is_mounted(self, path: str) -> bool:
        return self._mounts.is_mounted(path)

    async def unmount(self, path: str) -> None:
        await self._mounts.unmount(path)

    async def settle(self, path: str, name: str) -> Dataset:
        return await self._taker.settle(path, name)

    async def written(self, path: str, name: str) -> bool:
        return await self._taker.written(path, name)

    async def look(self, path: str, name: str) -> Look:
        return await self._taker.look(path, name)

    async def retire(self, path: str, mirror: str) -> None:
        await self._mounts.unmount(path)
        old, new = self._zfs.name(path), self._zfs.name(mirror)
        there = await self._zfs.properties([old, new], ["guid"])
        if not there:
            raise DatasetMissing(f"no dataset {path}", dataset=path)
        if old in there:
            await self._move(path, mirror)
        for key in ("mountpoint", "readonly"):
            await self._zfs.do("inherit", key, new)
        await self._leave(path)

    async def _move(self, path: str, mirror: str) -> None:
        """Gives the snapshots to a dataset of the other name. A rename would do, but zfs-fuse
        unmounts and mounts all clones of what it renames, which live containers are, or fails
        where one is in use; a promote leaves them alone. What lies beyond the newest snapshot
        goes, as a trim would have it. Without a snapshot there is no clone."""
        old, new = self._zfs.name(path), self._zfs.name(mirror)
        async with locked(self._lock_dir, path):
            found = (await self._zfs.get(path)).head
            if found is None and await self._zfs.find(mirror) is None:
                await self._zfs.do("rename", old, new)
                return
            if found is not None:
                snapshot = self._zfs.snapshot_name(found)
                await self._zfs.do("clone", snapshot, new, harmless=["already exists"])
                await self._zfs.do("promote", new)
            await self._zfs.do("destroy", old)

    async def promote(self, path: str, guid: Guid) -> None:
        if guid in {one.guid for one in (await self._zfs.get(path)).snapshots}:
            return
        trunk = self._zfs.path((await self._zfs.locate([guid]))[guid])
        async with contextlib.AsyncExitStack() as locks:
            for name in (f"{path}.receive", f"{trunk}.receive"):
                await locks.enter_async_context(locked(self._lock_dir, name, wait_seconds=0.1))
            for name in sorted((path, trunk)):
                await locks.enter_async_context(locked(self._lock_dir, name))
            found = await self._zfs.datasets([path, trunk])
            origin = found.find(guid)
            clone = found.datasets.get(path)
            if clone is None or clone.origin != guid or origin is None or origin.dataset != trunk:
                raise DatasetBusy(f"{path} is no clone of it any more", dataset=path, guid=guid)
            await self._zfs.do("promote", self._zfs.name(path))

    async def destroy_snapshot(self, path: str, guid: Guid, unless: Unless | None = None) -> None:
        async with locked(self._lock_dir, path):
            dataset = await self._zfs.find(path)
            snapshots = dataset.snapshots if dataset else ()
            snapshot = next((one for one in snapshots if one.guid == guid), None)
            if dataset is None or snapshot is None:
                return
            if snapshot.holds:
                raise DatasetBusy(f"{path}@{snapshot.name} is held", dataset=path, guid=guid)
            if unless is not None and await unless():
                raise DatasetBusy(f"{path}@{snapshot.name} is needed", dataset=path, guid=guid)
            await self._receiver.destroy(dataset, snapshot)

    async def destroy_bookmark(self, path: str, guid: Guid) -> None:
        dataset = await self._zfs.find(path)
        for mark in dataset.remains if dataset else ():
            if mark.guid == guid:
                name = f"{self._zfs.name(path)}#{mark.name}"
                await self._zfs.do("destroy", name, harmless=["does not exist"])

    async def trim(self, path: str) -> None:
        dataset = await self._zfs.find(path)
        if self._mounts.is_mounted(path):
            # zfs-fuse would roll a mounted filesystem back under its users.
            raise DatasetBusy(f"{path} is mounted", dataset=path)
        if dataset is not None:
            async with locked(self._lock_dir, f"{path}.receive", wait_seconds=0.1):
                await self._receiver.trim(dataset)

    async def destroy(self, path: str) -> None:
        dataset = await self._zfs.find(path)
        await self._mounts.unmount(path)
        if dataset is not None:
            await self._destroy(dataset)
        await self._leave(path)

    async def _destroy(self, dataset: Dataset) -> None:
        name = self._zfs.name(dataset.path)
        if dataset.partial:
            await self._zfs.do("destroy", "-r", name)
            return
        if dataset.snapshots:
            guids = [snapshot.guid for snapshot in dataset.snapshots]
            mark = await self._zfs.properties([name], [zfs_text.BRANCH_OF])
            if mark[name][zfs_text.BRANCH_OF] == "-":
                raise DatasetBusy(
                    f"{dataset.path} has snapshots", dataset=dataset.path, guids=guids
                )
            await self._receiver.promote_back(dataset)
        await self._zfs.do("destroy", name)

    async def _leave(self, path: str) -> None:
        """Removes what is empty after a dataset has gone: its directories, its parent."""
        self._mounts.forget(path)
        parent = path.rpartition("/")[0]
        if parent not in _FOLDERS:
            with contextlib.suppress(DatasetBusy):  # other generations are below it
                await self._zfs.do("destroy", self._zfs.name(parent), harmless=["does not exist"])

    async def read_check(self) -> None:
        output = await command.run(
            ["zfs", "get", "-Hp", "-o", "value", "guid", self._zfs.root],
            deadline_seconds=ASK_SECONDS,
        )
        if output.status != 0:
            error = zfs_text.failure(output)
            raise error if isinstance(error, StorageError) else CommandFailed(error.message)
        await self._mounts.read_check()
