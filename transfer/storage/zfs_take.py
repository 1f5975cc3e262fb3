"""Snapshots of live datasets: taking them, and finding out whether anything has changed."""

from __future__ import annotations

from collections.abc import Mapping

from transfer import command
from transfer.errors import DatasetMissing, TransferError
from transfer.model import Guid, Look, Snapshot
from transfer.storage import zfs_text
from transfer.storage.locks import locked
from transfer.storage.zfs_command import Zfs
from transfer.storage.zfs_mounts import ZfsMounts
from transfer.storage.zfs_stream import EMPTY_STREAM_BYTES, stream_head

# To mount a clone writes a kilobyte that is in no stream; so little is looked at.
LITTLE_BYTES = 1 << 20


class ZfsTaker:
    """Takes snapshots of datasets of `zfs`; with `bookmarks` each gets one at once."""

    def __init__(self, zfs: Zfs, mounts: ZfsMounts, lock_dir: str, *, bookmarks: bool) -> None:
        self._zfs = zfs
        self._mounts = mounts
        self._lock_dir = lock_dir
        self._bookmarks = bookmarks

    async def snapshot(self, path: str, name: str, tag: str) -> Snapshot:
        """As `Storage.snapshot`."""
        async with locked(self._lock_dir, path):
            taken = await self._take(path, name)
            # Its name is true for as long as the lock is held: who renames takes it too.
            await self._mark(taken)
            await self._zfs.do(
                "hold", tag, self._zfs.snapshot_name(taken), harmless=["tag already exists"]
            )
        return taken

    async def _mark(self, snapshot: Snapshot) -> None:
        """Makes its bookmark: once it is gone, whatever the reason, an increment can go from it."""
        if self._bookmarks:
            name = self._zfs.snapshot_name(snapshot)
            mark = name.replace("@", "#")
            await self._zfs.do("bookmark", name, mark, harmless=["bookmark exists"])

    async def _take(self, path: str, name: str) -> Snapshot:
        """Takes the snapshot, or finds that the one before it has all there is."""
        await self._mounts.flush(path)
        full_name = f"{self._zfs.name(path)}@{name}"
        output = await self._zfs.ask("snapshot", full_name)
        if not zfs_text.only_says(output, "already exists"):
            raise zfs_text.failure(output)
        dataset = await self._zfs.get(path)
        at = next(at for at, one in enumerate(dataset.snapshots) if one.name == name)
        taken = dataset.snapshots[at]
        if output.status != 0 or at == 0:
            return taken
        before = dataset.snapshots[at - 1]
        written = taken.written_bytes
        changed = written is not None and written > LITTLE_BYTES
        if changed or (written != 0 and not await self._unchanged(path, f"@{before.name}", name)):
            return taken
        await self._zfs.do("destroy", full_name)
        return before

    async def unchanged(self, path: str, since: str, name: str) -> Guid | None:
        """As `Storage.unchanged`; three commands."""
        async with locked(self._lock_dir, path):
            await self._mounts.flush(path)
            temporary = f"{self._zfs.name(path)}@{name}"
            await self._zfs.do("snapshot", temporary)
            try:
                stream = await self._between(path, f"@{since}", name)
            except TransferError:
                return None  # `since` is not here; if it is worse, the longer way says so
            finally:
                await self._zfs.do("destroy", temporary)
        return stream_head(stream).base if len(stream) == EMPTY_STREAM_BYTES else None

    async def _unchanged(self, path: str, older: str, newer: str) -> bool:
        return len(await self._between(path, older, newer)) == EMPTY_STREAM_BYTES

    async def _between(self, path: str, older: str, newer: str) -> bytes:
        """The beginning of the stream from `older` (`@` and a name, or the origin's full name) to
        the snapshot named `newer`. Where nothing lies between them it is a head and an end."""
        argv = ["zfs", "send", "-i", older, f"{self._zfs.name(path)}@{newer}"]
        stream = b""
        async with command.reading(argv) as child:
            while block := await child.read():
                stream += block
                if len(stream) > EMPTY_STREAM_BYTES:
                    return stream
            output = await child.finish()
        if output.status != 0:
            raise zfs_text.failure(output)
        return stream

    async def settle(self, path: str, name: str, properties: Mapping[str, str]) -> Snapshot | None:
        """As `Storage.settle`."""
        await self._mounts.flush(path)
        full_name = self._zfs.name(path)
        taken = await self._zfs.ask("snapshot", f"{full_name}@{name}")
        if taken.status != 0:  # by an attempt before this one, and without what came since
            await self._zfs.do("destroy", f"{full_name}@{name}", harmless=["could not find"])
            await self._zfs.do("snapshot", f"{full_name}@{name}")
        # Setting a property waits for its transaction group; `syncfs` alone secures nothing on
        # zfs-fuse: after kill -9 of it a file was lost, after a set it was kept.
        kept = {f"hoody:{key}": value for key, value in properties.items()}
        for key, value in {zfs_text.SETTLED: name, **kept}.items():
            await self._zfs.do("set", f"{key}={value}", full_name)
        dataset = await self._zfs.get(path)
        return next(one for one in dataset.snapshots if one.name == name)

    async def written(self, path: str, name: str) -> bool:
        """As `Storage.written`."""
        async with locked(self._lock_dir, path):
            full_name = self._zfs.name(path)
            rows = await self._zfs.properties([full_name], ["origin", zfs_text.SETTLED])
            if full_name not in rows:
                raise DatasetMissing(f"no dataset {path}", dataset=path)
            row = rows[full_name]
            settled = row[zfs_text.SETTLED]
            if row["origin"].endswith(f"@{settled}"):
                settled = row["origin"]  # a mirror that branched off there has it now
            elif settled in {one.name for one in (await self._zfs.get(path)).snapshots}:
                settled = f"@{settled}"
            else:
                return True
            temporary = f"{full_name}@{name}"
            await self._mounts.flush(path)
            await self._zfs.do("destroy", temporary, harmless=["does not exist", "could not find"])
            await self._zfs.do("snapshot", temporary)
            try:
                return not await self._unchanged(path, settled, name)
            finally:
                await self._zfs.do("destroy", temporary)

    async def look(self, path: str, name: str) -> Look:
        """As `Storage.look`."""
        async with locked(self._lock_dir, path):
            found = await self._take(path, name)
        return Look(True, found.guid) if found.name == name else Look(False)
