"""Two ZFS storages on pools of their own, for the tests of native streams."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from transfer.model import Landing, Snapshot, Step, StepKind
from transfer.storage.zfs import ZfsStorage

TAG = "hoody-" + "1" * 24
FILE_BYTES = 12 << 20


def new_id() -> str:
    return secrets.token_hex(12)


def new_name() -> str:
    return "h-" + new_id()


def mirror() -> str:
    return f"mirrors/{new_id()}"


@dataclass
class Servers:
    """Two storages on a pool each, and a live generation on the first."""

    source: ZfsStorage
    target: ZfsStorage
    path: str

    def write(self, name: str, size_bytes: int = 0, path: str | None = None) -> None:
        file = Path(self.source.rootfs(path or self.path), name)
        file.write_bytes(os.urandom(size_bytes) if size_bytes else name.encode())

    async def snapshot(self, path: str | None = None) -> Snapshot:
        return await self.source.snapshot(path or self.path, new_name(), TAG)

    async def clone(self, snapshot: Snapshot) -> str:
        path = f"containers/{new_id()}/{new_id()}"
        await self.source.clone(snapshot.guid, path)
        await self.source.mount(path)
        return path

    async def full(self, size_bytes: int = 0) -> tuple[Snapshot, str]:
        """A first snapshot and the mirror that has it."""
        self.write("first", size_bytes)
        snapshot = await self.snapshot()
        path = mirror()
        await self.ship(full_step(snapshot), path)
        return snapshot, path

    async def ship(self, step: Step, path: str) -> Snapshot:
        async with contextlib.aclosing(self.source.send(step)) as blocks:
            return await self.target.receive(step, path, blocks)

    async def names(self, path: str) -> set[str]:
        """The files of the newest snapshot of a dataset of the target."""
        head = (await self.target.inspect([path])).datasets[path].head
        assert head is not None
        copy = f"containers/{new_id()}/{new_id()}"
        await self.target.clone(head.guid, copy)
        found = set(os.listdir(await self.target.mount(copy)))
        await self.target.destroy(copy)
        return found


async def open_servers(zfs_pool: Callable[..., str], tmp_path: Path) -> Servers:
    """A pool and a storage each, and a live generation of an empty tree on the first."""
    opened: list[ZfsStorage] = []
    for pool in ("one", "two"):
        for folder in ("mount", "locks"):
            os.makedirs(tmp_path / pool / folder)
        where = [str(tmp_path / pool / folder) for folder in ("mount", "locks")]
        opened.append(await ZfsStorage.open(zfs_pool(pool), *where))
    source, target = opened
    os.mkdir(tmp_path / "tree")
    taken = await source.take_in(str(tmp_path / "tree"), mirror(), new_name(), lambda _: None)
    path = f"containers/{new_id()}/{new_id()}"
    await source.clone(taken.guid, path)
    await source.mount(path)
    return Servers(source, target, path)


def full_step(snapshot: Snapshot) -> Step:
    return Step(StepKind.FULL, snapshot.dataset, snapshot.guid, snapshot.name, None, Landing.NEW)


def increment(base: Snapshot, snapshot: Snapshot, into: str | None = None) -> Step:
    return Step(
        StepKind.INCREMENTAL,
        snapshot.dataset,
        snapshot.guid,
        snapshot.name,
        base.guid,
        Landing.EXTEND if into else Landing.NEW,
        into,
    )
