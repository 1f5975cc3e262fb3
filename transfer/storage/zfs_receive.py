"""Receiving native streams: where each one lands, and what is undone when it fails.

zfs-fuse tells two kinds of increments apart by a flag in the stream's head. One from a clone's
origin makes a new dataset, whose origin receive finds by its guid, also behind a mirror's head.
One within a dataset goes on top of the dataset whose newest snapshot is its base; where the base
lies behind the head, a clone of the base is made and promoted first, so that the base becomes
the newest snapshot of a dataset of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from transfer import command
from transfer.errors import DatasetBusy, SourceChanged, StreamCorrupt, VerifyMismatch
from transfer.model import Dataset, Snapshot, Step
from transfer.storage import zfs_text
from transfer.storage.locks import locked
from transfer.storage.zfs_command import Zfs
from transfer.storage.zfs_stream import RECORD_BYTES, StreamHead, check_head, stream_head


class ZfsReceiver:
    """Feeds streams into datasets of `zfs`."""

    def __init__(self, zfs: Zfs, lock_dir: str) -> None:
        self._zfs = zfs
        self._lock_dir = lock_dir

    async def receive(self, step: Step, path: str, blocks: AsyncIterator[bytes]) -> Snapshot:
        """As `Storage.receive`; an answer without a byte read where the snapshot is here."""
        here = await self._zfs.find(path)
        arrived = _arrived(here, step)
        if arrived is not None and arrived.guid == step.snapshot:
            return arrived
        start = await _start(blocks)
        head = stream_head(start)
        check_head(head, step)
        async with contextlib.AsyncExitStack() as on_failure:
            on_failure.push_async_callback(self._undo, step, path)
            await self._prepare(step, path, head)
            await self._feed(path, start, blocks)
            snapshot = await self._accept(step, path, head)
            on_failure.pop_all()
        return snapshot

    async def trim(self, dataset: Dataset) -> None:
        """Rolls an unmounted head back to the newest snapshot, if it may differ from it."""
        if dataset.head is not None and dataset.head_differs:
            name = self._zfs.snapshot_name(dataset.head)
            await self._zfs.do("rollback", name)  # never -r: the snapshot is the newest one
            await self._know_head(dataset.path, dataset.head)

    async def destroy(self, dataset: Dataset, snapshot: Snapshot) -> None:
        """Destroys a snapshot. Where it is the newest one and the head was known to equal an
        older one, as when a receive was killed at its end, that is known no more."""
        if snapshot == dataset.head and dataset.head_differs:
            await self._zfs.do("inherit", zfs_text.HEAD, self._zfs.name(dataset.path))
        await self._zfs.do("destroy", self._zfs.snapshot_name(snapshot))

    async def promote_back(self, dataset: Dataset) -> None:
        """Gives the snapshots of a branch that failed back to the dataset that they came from, as
        it is marked; where that has gone under this name, to the newest clone of theirs."""
        guids = {snapshot.guid: snapshot.order for snapshot in dataset.snapshots}
        forest = await self._zfs.everything()
        clones = [other for other in forest if other.origin in guids]
        if guids and not clones:
            raise DatasetBusy(
                f"{dataset.path} has snapshots", dataset=dataset.path, guids=list(guids)
            )
        if clones:
            name = self._zfs.name(dataset.path)
            mark = (await self._zfs.properties([name], [zfs_text.BRANCH_OF])).get(name, {})
            trunk = mark.get(zfs_text.BRANCH_OF)
            heir = max(clones, key=lambda one: (one.path == trunk, guids[one.origin or ""]))
            await self._zfs.do("promote", self._zfs.name(heir.path))

    async def _prepare(self, step: Step, path: str, head: StreamHead) -> None:
        here = await self._zfs.find(path)
        if step.into is not None:
            await self._prepare_extend(step, path, here)
            return
        if here is not None and here.head is not None and here.head.guid == step.base:
            return  # a branch that an earlier attempt made
        if here is not None:
            await self._undo(step, path)
        if step.base is not None and not head.clone:
            await self._make_branch(step.base, path)

    async def _prepare_extend(self, step: Step, path: str, here: Dataset | None) -> None:
        head = here.head if here is not None else None
        if here is None or head is None or head.guid != step.base:
            raise SourceChanged(
                f"{path} no longer ends with the base",
                dataset=path,
                base=step.base,
                head=head.guid if head else None,
            )
        await self.trim(here)

    async def _make_branch(self, base: str, path: str) -> None:
        trunk = self._zfs.path((await self._zfs.locate([base]))[base])
        async with locked(self._lock_dir, trunk):
            origin = (await self._zfs.locate([base]))[base]
            if self._zfs.path(origin) != trunk:
                raise SourceChanged("the base was moved meanwhile", dataset=trunk, base=base)
            mark = f"{zfs_text.BRANCH_OF}={trunk}"
            await self._zfs.do("clone", "-o", mark, origin, self._zfs.name(path))
            await self._zfs.do("promote", self._zfs.name(path))

    async def _feed(self, path: str, start: bytes, blocks: AsyncIterator[bytes]) -> None:
        """Hands a block on only when the next one is there: the caller's iterator ends well only
        if the whole stream was good, and until then its end must not reach zfs, which commits
        at the end record."""
        async with command.writing(["zfs", "receive", self._zfs.name(path)]) as child:
            kept = start
            async for block in blocks:
                if block:
                    if not await _taken(child, kept):
                        break
                    kept = block
            else:
                await _taken(child, kept)
            output = await child.finish()
        if output.status != 0:
            raise zfs_text.failure(output)

    async def _accept(self, step: Step, path: str, head: StreamHead) -> Snapshot:
        dataset = await self._zfs.get(path)
        arrived = _arrived(dataset, step)
        guid = arrived.guid if arrived else None
        if arrived is None or guid != step.snapshot or arrived != dataset.head:
            raise VerifyMismatch(
                "another snapshot arrived", dataset=path, planned=step.snapshot, arrived=guid
            )
        if head.clone and dataset.origin != step.base:
            raise VerifyMismatch(
                "the clone has another origin", planned=step.base, arrived=dataset.origin
            )
        if step.flags:
            await self._zfs.do("set", f"{zfs_text.FLAGS}={step.flags}", self._zfs.name(path))
        await self._know_head(path, arrived)
        await self._zfs.do("inherit", zfs_text.BRANCH_OF, self._zfs.name(path))
        return arrived

    async def _undo(self, step: Step, path: str) -> None:
        """Takes back what an attempt has left, down to the state before it."""
        here = await self._zfs.find(path)
        if here is None:
            return
        arrived = _arrived(here, step)
        if arrived is not None:
            await self.destroy(here, arrived)
        rest = await self._zfs.find(path)
        if rest is None:
            return
        if step.into is not None:
            await self.trim(rest)
            return
        await self.promote_back(rest)
        # A receive that failed removes by itself what it has begun, and may be about to.
        await self._zfs.do("destroy", self._zfs.name(path), harmless=["dataset does not exist"])

    async def _know_head(self, path: str, head: Snapshot) -> None:
        await self._zfs.do("set", f"{zfs_text.HEAD}={head.guid}", self._zfs.name(path))


def _arrived(dataset: Dataset | None, step: Step) -> Snapshot | None:
    if dataset is None:
        return None
    return next((one for one in dataset.snapshots if one.name == step.name), None)


async def _taken(child: command.Child, block: bytes) -> bool:
    """Whether the child took the block; its exit status says why where it did not."""
    try:
        await child.write(block)
    except ConnectionError:
        return False
    return True


async def _start(blocks: AsyncIterator[bytes]) -> bytes:
    """The first blocks, as many as hold the stream's head."""
    start = b""
    async for block in blocks:
        start += block
        if len(start) >= RECORD_BYTES:
            return start
    raise StreamCorrupt("the stream ended within its head", bytes=len(start))
