"""The storage on any filesystem, without root: trees, sidecars and content diff.

directory_layout  where things lie
directory_change  mounting, moving, destroying
directory_freeze  snapshots and live trees
directory_intake  a directory or an archive of this machine in
directory_basis   what a live tree has in common with a snapshot
directory_serve   what other servers ask for
directory_traits  what the filesystem can do
directory_thread  blocking work in threads
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

from transfer.errors import (
    CannotExpress,
    DatasetBusy,
    SnapshotMissing,
    SourceChanged,
    StorageError,
)
from transfer.model import Capacity, Dataset, Forest, Guid, Landing, Look, Snapshot, Step, Traits
from transfer.storage import (
    directory_change,
    directory_freeze,
    directory_intake,
    directory_known,
)
from transfer.storage.base import Unless
from transfer.storage.directory_layout import (
    PASSABLE,
    PRIVATE,
    DatasetRecord,
    Layout,
    Located,
    as_snapshot,
)
from transfer.storage.directory_serve import Serving
from transfer.storage.directory_thread import Meter, blocking, translated
from transfer.storage.directory_traits import find_traits
from transfer.storage.locks import locked
from transfer.tree.apply import Base, build_from
from transfer.tree.source import OnBytes, TreeSource

TAKES_MAX = 3  # of a snapshot that may be destroyed before it is held


class DirectoryStorage:
    """Implements `Storage`. What is long (a snapshot, a clone, an apply) runs under the dataset's
    work lock; holds, and whatever destroys, under its own lock, so that a hold never waits."""

    def __init__(self, root: str, mount_root: str, lock_dir: str, traits: Traits) -> None:
        self._layout = Layout(root)
        self._serving = Serving(self._layout)
        self._mount_root = mount_root
        self._lock_dir = lock_dir
        self._traits = traits

    @classmethod
    async def open(cls, root: str, mount_root: str, lock_dir: str) -> DirectoryStorage:
        """The storage in the directory `root`, which must exist. Raises StorageError."""
        if not os.path.isdir(root):
            raise StorageError(f"{root} is no directory", root=root)
        traits = await blocking(_prepare, root)
        return cls(root, mount_root, lock_dir, traits)

    # What other servers may ask for

    async def traits(self) -> Traits:
        """What the filesystem can do, as found at open."""
        return self._traits

    async def lineage(self, guids: Sequence[Guid], paths: Sequence[str] = ()) -> Forest:
        """These datasets, those of these snapshots and those of their origins."""
        return await blocking(self._layout.lineage, guids, paths)

    async def snapshot(self, path: str, name: str, tag: str) -> Snapshot:
        """A held snapshot of the live tree; see `Source.snapshot`."""
        async with self._working(path):
            for _ in range(TAKES_MAX):
                found = await self._take(path, name)
                # The newest one, which still is the live tree's state, may just be destroyed.
                with contextlib.suppress(SnapshotMissing):
                    await self.hold([found.record.guid], tag)
                    return await self._as_snapshot(found)
        raise SourceChanged("the snapshot was destroyed, again and again", path=path)

    async def _take(self, path: str, name: str) -> Located:
        found = await blocking(self._layout.located, path, name)
        if found is not None:
            return found
        reflinks = self._traits.reflink
        return await blocking(directory_freeze.freeze, self._layout, path, name, reflinks=reflinks)

    async def unchanged(self, path: str, since: str, name: str) -> Guid | None:
        """Nothing: to tell it, the whole tree has to be read, as `snapshot` does."""
        return None

    async def hold(self, guids: Sequence[Guid], tag: str) -> None:
        """Keeps snapshots. Raises SnapshotMissing."""
        for guid in guids:
            found = await blocking(self._layout.require, guid)
            async with self._locked(found.path):
                await blocking(self._hold, guid, tag)

    async def release(self, guids: Sequence[Guid], tag: str) -> None:
        """Lets go of what `hold` kept."""
        for guid in guids:
            found = await blocking(self._layout.find, guid)
            if found is not None:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._layout.hold(found.path, found.name, tag))

    async def size(self, step: Step) -> int:
        """An estimate of what a content step fetches."""
        return await blocking(self._size, step)

    def send(self, step: Step) -> AsyncGenerator[bytes, None]:
        """Raises CannotExpress: there are no native streams."""
        raise CannotExpress("a dir storage has no native streams")

    async def tree_root(self, guid: Guid) -> bytes:
        """The digest of the snapshot's tree. Raises SnapshotMissing."""
        return await self._serving.root(guid)

    def tree_nodes(self, guid: Guid, paths: Sequence[bytes]) -> AsyncIterator[bytes]:
        """See `TreeSource.tree_nodes`."""
        return self._serving.nodes(guid, paths)

    def tree_chunk_lists(self, guid: Guid, paths: Sequence[bytes]) -> AsyncIterator[bytes]:
        """See `TreeSource.tree_chunk_lists`."""
        return self._serving.chunk_lists(guid, paths)

    def tree_chunks(
        self, guid: Guid, wants: Sequence[tuple[bytes, int, int]]
    ) -> AsyncIterator[bytes]:
        """See `TreeSource.tree_chunks`."""
        return self._serving.chunks(guid, wants)

    # This server's own

    async def forest(self) -> Forest:
        """Everything under the root."""
        return await blocking(self._layout.forest)

    async def foreign(self) -> list[str]:
        """What is under the root and not ours."""
        return await blocking(self._layout.foreign)

    async def inspect(self, paths: Sequence[str]) -> Forest:
        """These datasets, as far as they exist."""
        found = [await blocking(self._layout.read, path) for path in paths]
        return Forest.of(dataset for dataset in found if dataset is not None)

    async def capacity(self) -> Capacity:
        """Bytes of the filesystem that the root is on."""
        found = await blocking(os.statvfs, self._layout.root)
        total, free = found.f_blocks * found.f_frsize, found.f_bfree * found.f_frsize
        return Capacity(total, total - free, found.f_bavail * found.f_frsize)

    async def take_in(self, tree: str, path: str, name: str, on_bytes: OnBytes) -> Snapshot:
        """A new dataset from a directory. Raises SourcePathInvalid, InsufficientStorage."""
        async with self._working(path):
            found = await blocking(self._layout.located, path, name)
            if found is None:
                meter = Meter(on_bytes)
                found = await blocking(
                    directory_intake.take_in, self._layout, tree, path, name, meter.add
                )
                meter.flush()
        return await self._as_snapshot(found)

    async def unpack(self, archive: str, path: str, name: str, on_bytes: OnBytes) -> Snapshot:
        """A new dataset from an archive. Raises SourcePathInvalid, ArchiveInvalid,
        InsufficientStorage."""
        bytes_max = (await self.capacity()).available_bytes
        async with self._working(path):
            found = await blocking(self._layout.located, path, name)
            if found is None:
                meter = Meter(on_bytes)
                tarball = directory_intake.Tarball(archive, bytes_max, meter.add)
                found = await blocking(directory_intake.unpack, self._layout, tarball, path, name)
                meter.flush()
        return await self._as_snapshot(found)

    async def receive(self, step: Step, path: str, blocks: AsyncIterator[bytes]) -> Snapshot:
        """Raises CannotExpress: there are no native streams."""
        raise CannotExpress("a dir storage has no native streams")

    async def resume_point(self, step: Step, path: str) -> Step | None:
        """None: there are no native streams."""
        return None

    async def discard(self, path: str) -> None:
        """Nothing: there are no native streams."""

    async def apply(self, step: Step, path: str, source: TreeSource, on_bytes: OnBytes) -> Snapshot:
        """Carries out a content step; the snapshot has the source's guid."""
        async with self._working(path):
            found = await blocking(self._layout.located, path, step.name)
            if found is None or found.record.guid != step.snapshot:
                found = await self._apply(step, path, source, on_bytes)
        return await self._as_snapshot(found)

    async def clone(
        self, guid: Guid, path: str, properties: Mapping[str, str] | None = None
    ) -> None:
        """A new writable dataset from a snapshot."""
        async with self._working(path):
            origin = await blocking(self._layout.require, guid)
            reflinks = self._traits.reflink
            given = dict(properties or {})
            await blocking(
                directory_freeze.clone, self._layout, origin, path, given, reflinks=reflinks
            )

    async def mount(self, path: str) -> str:
        """Puts a symlink to the live tree under the mount root; returns the tree's own path."""
        return await blocking(directory_change.mount, self._layout, self._mount_root, path)

    def rootfs(self, path: str) -> str:
        """The live tree's own path."""
        return os.path.join(self._layout.dataset(path), "live")

    def is_mounted(self, path: str) -> bool:
        """Whether the mount root has the symlink."""
        return os.path.lexists(directory_change.link_of(self._mount_root, path))

    async def unmount(self, path: str) -> None:
        """Takes the symlink away."""
        await blocking(directory_change.unmount, self._mount_root, path)

    async def settle(self, path: str, name: str) -> Dataset:
        """Brings the live tree to the disk and remembers its state; makes no snapshot."""
        async with self._working(path):
            await blocking(directory_known.settle, self._layout, path)
        return (await self.inspect([path])).datasets[path]

    async def written(self, path: str, name: str) -> bool:
        """Whether the live tree has changed since `settle`."""
        return await blocking(directory_known.written, self._layout, path)

    async def look(self, path: str, name: str) -> Look:
        """Whether the live tree has changed since its state was last known; keeps no snapshot."""
        async with self._working(path):
            return Look(await blocking(directory_known.look, self._layout, path))

    async def retire(self, path: str, mirror: str) -> None:
        """Moves a generation to `mirrors/…` and drops its live tree."""
        await self.unmount(path)
        async with self._alone(path), self._alone(mirror):
            await blocking(directory_change.retire, self._layout, path, mirror)

    async def promote(self, path: str, guid: Guid) -> None:
        """Raises CannotExpress: clones do not pin what they were made from."""
        raise CannotExpress("a dir storage has nothing to promote: its clones stand alone")

    async def destroy_snapshot(self, path: str, guid: Guid, unless: Unless | None = None) -> None:
        """Destroys one snapshot. Raises DatasetBusy where it is held, or needed."""
        async with self._locked(path):
            await blocking(directory_change.require_unheld, self._layout, path, guid)
            if unless is not None and await unless():
                raise DatasetBusy(f"snapshot {guid} is needed", path=path, guid=guid)
            await blocking(directory_change.destroy_snapshot, self._layout, path, guid)

    async def destroy_bookmark(self, path: str, guid: Guid) -> None:
        """Nothing: there are none, for a content diff needs its base on the target alone."""

    async def trim(self, path: str) -> None:
        """Drops the live tree and what was half-made of a dataset that is not live."""
        async with self._alone(path):
            await blocking(directory_change.trim, self._layout, path)

    async def destroy(self, path: str) -> None:
        """Destroys a dataset without snapshots. Raises DatasetBusy where it has one."""
        await self.unmount(path)
        async with self._alone(path):
            await blocking(directory_change.destroy, self._layout, path)

    async def read_check(self) -> None:
        """Reads a directory of the root. Raises StorageError."""
        await blocking(os.listdir, os.path.join(self._layout.root, "containers"))

    # The blocking halves

    def _hold(self, guid: Guid, tag: str) -> None:
        found = self._layout.require(guid)
        path = self._layout.hold(found.path, found.name, tag)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def _size(self, step: Step) -> int:
        wanted = self._layout.require(step.snapshot)
        total = wanted.record.referenced_bytes
        base = None if step.base is None else self._layout.find(step.base)
        if base is None:
            return total
        between = 0
        for snapshot in self._layout.lineage([step.snapshot]).lineage(step.snapshot):
            if snapshot.guid == step.base:
                return min(between, total)
            between += snapshot.unique_bytes
        return max(0, total - base.record.referenced_bytes)

    async def _apply(self, step: Step, path: str, source: TreeSource, on_bytes: OnBytes) -> Located:
        work, base = await blocking(self._begin, step, path)
        with translated():
            built = await build_from(source, step.snapshot, base, work, on_bytes)
        return await blocking(
            directory_freeze.publish,
            self._layout,
            path,
            step.name,
            directory_freeze.Built(built.manifest, step.snapshot, built.new_bytes),
        )

    def _begin(self, step: Step, path: str) -> tuple[str, Base | None]:
        base = None if step.base is None else self._layout.find(step.base)
        origin = None if step.landing is Landing.EXTEND or base is None else base.record.guid
        self._layout.make_dataset(path, DatasetRecord(origin))
        work = self._layout.building(path, step.name)
        os.makedirs(work, mode=PRIVATE, exist_ok=True)
        return work, None if base is None else Base(base.manifest(), base.tree)

    async def _as_snapshot(self, found: Located) -> Snapshot:
        holds = await blocking(self._layout.holds, found.path, found.name)
        return as_snapshot(found, len(holds))

    # Locks

    def _locked(self, path: str) -> contextlib.AbstractAsyncContextManager[None]:
        return locked(self._lock_dir, path)

    def _working(self, path: str) -> contextlib.AbstractAsyncContextManager[None]:
        return locked(self._lock_dir, f"{path}.work")

    @contextlib.asynccontextmanager
    async def _alone(self, path: str) -> AsyncIterator[None]:
        async with self._working(path), self._locked(path):
            yield


def _prepare(root: str) -> Traits:
    os.makedirs(os.path.join(root, "containers"), mode=PASSABLE, exist_ok=True)
    for name in ("mirrors", "images"):
        os.makedirs(os.path.join(root, name), mode=PRIVATE, exist_ok=True)
    return find_traits(root)
