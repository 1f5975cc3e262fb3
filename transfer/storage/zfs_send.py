"""Sending native streams, and how large they will be."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from transfer import command
from transfer.errors import DatasetMissing, SnapshotMissing, SourceChanged, TransferError
from transfer.model import Step
from transfer.storage import zfs_text, zfs_turns
from transfer.storage.zfs_command import Zfs
from transfer.storage.zfs_features import Features


class ZfsSender:
    """Makes streams of snapshots of `zfs`."""

    def __init__(self, zfs: Zfs, features: Features) -> None:
        self._zfs = zfs
        self._features = features

    async def size(self, step: Step) -> int:
        """As `Storage.size`."""
        if step.token is not None:
            return zfs_text.estimated_bytes(await self._judged(step, step.token))
        if self._features.estimates:
            return await self._estimated(step)
        return await self._reckoned(step)

    async def _estimated(self, step: Step) -> int:
        _, send, *rest = await self._send_argv(step)
        output = await self._zfs.ask(send, "-nvP", *rest)
        if output.status != 0:
            raise zfs_text.failure(output)
        return zfs_text.estimated_bytes(output.stdout)

    async def _reckoned(self, step: Step) -> int:
        """zfs-fuse has no `send -n`: for an increment, what the snapshot refers to beyond its
        base, and what of the base it no longer has; exact where nothing lies between them."""
        guids = [step.snapshot, *([step.base] if step.base else [])]
        keys = ["guid", "referenced", "used"]
        rows = await self._zfs.properties(self._zfs.seen(guids).values(), keys)
        if not zfs_text.snapshots(rows).keys() >= set(guids):
            rows = await self._zfs.properties((await self._zfs.locate(guids)).values(), keys)
        by_guid = {row["guid"]: row for row in rows.values()}
        referenced = int(by_guid[step.snapshot]["referenced"])
        if step.base is None:
            return referenced
        base = by_guid[step.base]
        return max(0, referenced - int(base["referenced"])) + int(base["used"])

    async def send(self, step: Step) -> AsyncGenerator[bytes, None]:
        """As `Storage.send`."""
        argv = await self._send_argv(step)
        async with command.reading(zfs_turns.in_turn(argv)) as child:
            while block := await child.read():
                yield block
            output = await child.finish()
        zfs_turns.check(output)
        if output.status != 0:
            raise _moved_or(zfs_text.failure(output))

    async def _judged(self, step: Step, token: str) -> str:
        """What `send` says of the token. Raises SourceChanged where it does not go on with this
        step's stream, or what that is made of is gone or has another name."""
        output = await self._zfs.ask("send", "-nvP", "-t", token)
        fits = zfs_text.token_of(output.stdout)[:2] == (step.snapshot, step.base)
        if output.status != 0 or not fits:
            raise SourceChanged("the token no longer fits", guid=step.snapshot, said=output.stderr)
        return output.stdout

    async def _send_argv(self, step: Step) -> list[str]:
        if step.token is not None:
            await self._judged(step, step.token)
            return ["zfs", "send", "-t", step.token]
        try:
            base, name = await self._names(step)
        except SnapshotMissing as error:
            raise SourceChanged("the source lost what is to be sent", **error.evidence) from error
        flags = [f"-{step.flags}"] if step.flags else []
        option = "-I" if step.run else "-i"
        return ["zfs", "send", *flags, *([option, base] if base else []), name]

    async def _names(self, step: Step) -> tuple[str | None, str]:
        """The full names of the base, or of its bookmark where it is gone, and of the snapshot."""
        if step.base is None:
            return None, (await self._zfs.locate([step.snapshot]))[step.snapshot]
        here = await self._zfs.locate_some([step.snapshot, step.base])
        if step.snapshot not in here:
            raise SnapshotMissing("the snapshot is gone", guids=[step.snapshot])
        base = here.get(step.base) or await self._zfs.bookmark(step.base)
        return base, here[step.snapshot]


def _moved_or(failure: TransferError) -> TransferError:
    """A snapshot that is gone under the name that it had a moment ago: a promote has given it to
    another dataset, since what is sent is held."""
    if isinstance(failure, DatasetMissing | SnapshotMissing):
        return SourceChanged(failure.message, **failure.evidence)
    return failure
