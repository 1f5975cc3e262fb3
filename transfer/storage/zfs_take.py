"""Snapshots of live datasets: taking them, and finding out whether anything has changed."""

from __future__ import annotations

from transfer import command
from transfer.at_once import at_once
from transfer.errors import DatasetMissing, TransferError
from transfer.model import Dataset, Guid, Look, Snapshot
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
            taken, spare = await self._take(path, name)
            # Its name is true for as long as the lock is held: who renames takes it too.
            await at_once(self._keep(taken, tag), self._drop(spare))
        return taken

    async def _keep(self, snapshot: Snapshot, tag: str) -> None:
        await self._mark(snapshot)
        name = self._zfs.snapshot_name(snapshot)
        await self._zfs.do("hold", tag, name, harmless=["tag already exists"])

    async def _drop(self, spare: Snapshot | None) -> None:
        if spare is not None:
            await self._zfs.do("destroy", self._zfs.snapshot_name(spare))

    async def _mark(self, snapshot: Snapshot) -> None:
        """Makes its bookmark: once it is gone, whatever the reason, an increment can go from it."""
        if self._bookmarks:
            name = self._zfs.snapshot_name(snapshot)
            mark = name.replace("@", "#")
            await self._zfs.do("bookmark", name, mark, harmless=["bookmark exists"])

    async def _take(self, path: str, name: str) -> tuple[Snapshot, Snapshot | None]:
        """Takes the snapshot, and finds the one that has all there is: it, or the one before it,
        for which it was taken to no purpose, and is to go."""
        await self._mounts.flush(path)
        full_name = f"{self._zfs.name(path)}@{name}"
        output = await self._zfs.ask("snapshot", full_name)
        if not zfs_text.only_says(output, "already exists"):
            raise zfs_text.failure(output)
        dataset = await self._zfs.get(path)
        at = next(at for at, one in enumerate(dataset.snapshots) if one.name == name)
        taken = dataset.snapshots[at]
        if output.status != 0 or at == 0:
            return taken, None
        before = dataset.snapshots[at - 1]
        written = taken.written_bytes
        changed = written is not None and written > LITTLE_BYTES
        if changed or (written != 0 and not await self._unchanged(path, f"@{before.name}", name)):
            return taken, None
        return before, taken

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

    async def settle(self, path: str, name: str) -> Dataset:
        """As `Storage.settle`. Both commands wait for a transaction group, and are done after it:
        `syncfs` alone secures nothing on zfs-fuse; after kill -9 of it a file was lost."""
        await self._mounts.flush(path)
        full_name = self._zfs.name(path)
        await at_once(
            self._anew(f"{full_name}@{name}"),
            self._zfs.do("set", f"{zfs_text.SETTLED}={name}", full_name),
        )
        return await self._zfs.get(path)

    async def _anew(self, full_name: str) -> None:
        taken = await self._zfs.ask("snapshot", full_name)
        if taken.status != 0:  # by an attempt before this one, and without what came since
            await self._zfs.do("destroy", full_name, harmless=["could not find"])
            await self._zfs.do("snapshot", full_name)

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
            found, spare = await self._take(path, name)
            await self._drop(spare)
        return Look(True, found.guid) if found.name == name else Look(False)
