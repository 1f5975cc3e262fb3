"""Sending native streams, and how large they will be."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from transfer import command
from transfer.errors import SnapshotMissing, SourceChanged
from transfer.model import Step
from transfer.storage import zfs_text
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
        names = await self._zfs.locate([step.snapshot, *([step.base] if step.base else [])])
        rows = await self._zfs.properties(names.values(), ["referenced", "used"])
        referenced = int(rows[names[step.snapshot]]["referenced"])
        if step.base is None:
            return referenced
        base = rows[names[step.base]]
        return max(0, referenced - int(base["referenced"])) + int(base["used"])

    async def send(self, step: Step) -> AsyncGenerator[bytes, None]:
        """As `Storage.send`."""
        argv = await self._send_argv(step)
        async with command.reading(argv) as child:
            while block := await child.read():
                yield block
            output = await child.finish()
        if output.status != 0:
            raise zfs_text.failure(output)

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
            name = (await self._zfs.locate([step.snapshot]))[step.snapshot]
            option = "-I" if step.run else "-i"
            base = [option, await self._zfs.base_name(step.base)] if step.base else []
        except SnapshotMissing as error:
            raise SourceChanged("the source lost what is to be sent", **error.evidence) from error
        flags = [f"-{step.flags}"] if step.flags else []
        return ["zfs", "send", *flags, *base, name]
