"""Receiving native streams: where each one lands, and what is undone when it fails.

An increment that does not go on top of a mirror makes a new dataset, a clone of its base. OpenZFS
is told the base. zfs-fuse tells two kinds of increments apart by a flag in the stream's head. One
from a clone's origin makes a new dataset, whose origin receive finds by its guid, also behind a
mirror's head. One within a dataset goes on top of the dataset whose newest snapshot is its base;
where the base lies behind the head, a clone of the base is made and promoted first, so that the
base becomes the newest snapshot of a dataset of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from itertools import pairwise

from transfer import command
from transfer.errors import (
    DatasetBusy,
    SnapshotMissing,
    SourceChanged,
    TransferError,
    TransferStalled,
    VerifyMismatch,
)
from transfer.model import Dataset, Guid, Settings, Snapshot, Step
from transfer.storage import zfs_settings, zfs_text
from transfer.storage.locks import locked
from transfer.storage.zfs_command import Zfs
from transfer.storage.zfs_features import Features
from transfer.storage.zfs_stale import end_stale
from transfer.storage.zfs_stream import END_BYTES, HEAD_BYTES, StreamHead, check_head, stream_head


class ZfsReceiver:
    """Feeds streams into datasets of `zfs`."""

    def __init__(self, zfs: Zfs, lock_dir: str, features: Features) -> None:
        self._zfs = zfs
        self._lock_dir = lock_dir
        self._features = features

    async def receive(self, step: Step, path: str, blocks: AsyncIterator[bytes]) -> Snapshot:
        """As `Storage.receive`; an answer without a byte read where the snapshot is here."""
        await end_stale(self._zfs.name(path))
        here = await self._zfs.find(path)
        arrived = _arrived(here, step)
        if arrived is not None and arrived.guid == step.snapshot:
            if self._may_branch(step):  # and the attempt that made it was killed at its end
                await self._unmark(path)
            return arrived
        start = await _start(blocks)
        head = stream_head(start)
        check_head(head, step)
        async with contextlib.AsyncExitStack() as on_failure:
            on_failure.push_async_exit(partial(self._fail, step, path))
            if step.token is None:
                await self._prepare(step, path, head, here)
            await self._feed(await self._argv(step, path), start, blocks)
            snapshot = await self._accept(step, path, head)
            on_failure.pop_all()
        return snapshot

    async def _fail(
        self, step: Step, path: str, _: object, error: BaseException | None, trace: object
    ) -> None:
        """Takes back what was begun; not where the line was cut and it can be gone on with. What
        is kept of an ended job, the collector lets go of."""
        cut = isinstance(error, _Cut | asyncio.CancelledError)
        if not (cut and self._features.resumes):
            await self._undo(step, path)
        if isinstance(error, _Cut):
            raise error.error

    async def resume_point(self, step: Step, path: str) -> Step | None:
        """As `Storage.resume_point`."""
        if not self._features.resumes:
            return None
        await end_stale(self._zfs.name(path))
        here = await self._zfs.find(path)
        if here is None or here.token is None:
            return None
        # It knows what the token says, though what that names is on another server.
        said = await self._zfs.ask("send", "-nvP", "-t", here.token)
        to, base, name = zfs_text.token_of(said.stdout)
        if to is not None and name is not None and (base, to) in pairwise((step.base, *step.makes)):
            return replace(step, snapshot=to, base=base, name=name, run=(), token=here.token)
        await self._discard(here)
        return None

    async def discard(self, path: str) -> None:
        """As `Storage.discard`."""
        here = await self._zfs.find(path)
        if here is not None:
            await self._discard(here)

    async def _discard(self, dataset: Dataset) -> None:
        if dataset.token is not None:
            await self._zfs.do("receive", "-A", self._zfs.name(dataset.path))

    async def trim(self, dataset: Dataset) -> None:
        """Rolls an unmounted head back to the newest snapshot, if it may differ from it."""
        await self._discard(dataset)
        if dataset.head is not None and dataset.head_differs:
            name = self._zfs.snapshot_name(dataset.head)
            for mark in dataset.bookmarks:
                if mark.order > dataset.head.order:  # it stands in the way of a rollback
                    await self._zfs.do("destroy", f"{self._zfs.name(dataset.path)}#{mark.name}")
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

    async def _prepare(self, step: Step, path: str, head: StreamHead, here: Dataset | None) -> None:
        if step.into is not None:
            await self._prepare_extend(step, path, here)
            return
        if here is not None and here.head is not None and here.head.guid == step.base:
            return  # a branch that an earlier attempt made
        if here is not None:
            await self._undo(step, path)
        if step.base is not None and not head.clone and self._may_branch(step):
            await self._make_branch(step.base, path)

    def _may_branch(self, step: Step) -> bool:
        """Whether a dataset may have to be made for the step, by clone and promote."""
        return step.into is None and step.base is not None and not self._features.branches

    async def _unmark(self, path: str) -> None:
        await self._zfs.do("inherit", zfs_text.BRANCH_OF, self._zfs.name(path))

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

    async def _argv(self, step: Step, path: str) -> list[str]:
        """What receives the step. With `-u` what has a mountpoint is not mounted."""
        options = ["-s"] if self._features.resumes else []
        if self._features.branches:
            options += ["-u"]
            # A receive that is gone on with has its settings and its origin already.
            if step.into is None and step.token is None:
                options += ["-o", "canmount=noauto", *zfs_settings.options(self._allowed(step))]
                if step.base is not None:
                    options += ["-o", f"origin={await self._origin(step.base)}"]
        return ["zfs", "receive", *options, self._zfs.name(path)]

    async def _origin(self, base: Guid) -> str:
        try:
            return (await self._zfs.locate([base]))[base]
        except SnapshotMissing as error:
            raise SourceChanged("the base is gone from here", base=base) from error

    async def _feed(self, argv: list[str], start: bytes, blocks: AsyncIterator[bytes]) -> None:
        """Hands a block on only when the next one is there: the caller's iterator ends well only
        if the whole stream was good, and until then its end must not reach zfs, which commits
        at the end record."""
        async with command.writing(argv) as child:
            kept = start
            try:
                async for block in _cuttable(blocks):
                    if block:
                        if not await _taken(child, kept):
                            break
                        kept = block
                else:
                    await _taken(child, kept)
            except _Cut:
                if self._features.resumes:
                    await _end_early(child, kept)
                raise
            output = await child.finish()
        if output.status != 0:
            raise await self._zfs.told_apart(output)

    async def _accept(self, step: Step, path: str, head: StreamHead) -> Snapshot:
        if step.into is None and step.base is not None:
            for origin in self._zfs.seen([step.base]).values():
                self._zfs.comes_to_stand(path, origin)
        dataset = await self._zfs.get(path)
        arrived = _arrived(dataset, step)
        guid = arrived.guid if arrived else None
        come = tuple(one.guid for one in dataset.snapshots)[-len(step.makes) :]
        if arrived is None or guid != step.snapshot or come != step.makes:
            raise VerifyMismatch(
                "another snapshot arrived", dataset=path, planned=step.snapshot, arrived=guid
            )
        is_clone = head.clone or (self._features.branches and step.into is None)
        if is_clone and dataset.origin != step.base:
            raise VerifyMismatch(
                "the clone has another origin", planned=step.base, arrived=dataset.origin
            )
        await self._give(step, dataset)
        await self._know_head(path, arrived, step.flags)
        if self._may_branch(step) and not head.clone:
            await self._unmark(path)
        return arrived

    def _allowed(self, step: Step) -> Settings:
        return zfs_settings.allowed(step.settings, self._zfs.asked)

    async def _give(self, step: Step, dataset: Dataset) -> None:
        """Makes the settings of the source's dataset, and no others, those of this one."""
        name = self._zfs.name(dataset.path)
        had, wanted = dict(dataset.settings), dict(self._allowed(step))
        for key in had.keys() - wanted.keys():
            await self._zfs.do("inherit", key, name)
        for key, value in wanted.items():
            if had.get(key) != value:
                await self._zfs.do("set", f"{key}={value}", name)

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

    async def _know_head(self, path: str, head: Snapshot, flags: str = "") -> None:
        # Only zfs-fuse takes but one property a command, and it has no flags.
        came = [f"{zfs_text.FLAGS}={flags}"] if flags else []
        await self._zfs.do("set", f"{zfs_text.HEAD}={head.guid}", *came, self._zfs.name(path))


def _arrived(dataset: Dataset | None, step: Step) -> Snapshot | None:
    if dataset is None:
        return None
    return next((one for one in dataset.snapshots if one.name == step.name), None)


class _Cut(Exception):
    """The stream ended with this error, through no fault of its receiver."""

    def __init__(self, error: TransferError) -> None:
        super().__init__(str(error))
        self.error = error


async def _cuttable(blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        async for block in blocks:
            yield block
    except TransferError as error:
        raise _Cut(error) from error


async def _taken(child: command.Child, block: bytes) -> bool:
    """Whether the child took the block; its exit status says why where it did not."""
    try:
        await child.write(block)
    except ConnectionError:
        return False
    return True


async def _end_early(child: command.Child, kept: bytes) -> None:
    """Of a stream that was cut, all that came is for the next attempt to go on from; but not what
    may be its end, for that would be taken for a good one. A child that is killed loses what it
    has not read yet."""
    with contextlib.suppress(TransferStalled):
        if await _taken(child, kept[:-END_BYTES]):
            await child.finish()


async def _start(blocks: AsyncIterator[bytes]) -> bytes:
    """The first blocks, as many as hold the head of any stream."""
    start = b""
    async for block in blocks:
        start += block
        if len(start) >= HEAD_BYTES:
            break
    return start
