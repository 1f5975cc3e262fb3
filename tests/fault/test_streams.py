"""A damaged or cut stream is never received as good: replication between two real storages, with
a source that spoils what it sends."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from daemon.model import generation_path, mirror_path, new_id, snapshot_name
from tests.acceptance import trees
from transfer.errors import PeerUnreachable, TransferError
from transfer.model import Forest, Guid, Snapshot, Step
from transfer.replicate import Outcome, Replication, Request
from transfer.storage import open_storage
from transfer.storage.base import Storage

TAG = "hoody-" + "1" * 24
BIG_BYTES = 4 << 20

Stream = AsyncIterator[bytes]
Fault = Callable[[Stream, int], AsyncGenerator[bytes, None]]


async def cut(blocks: Stream, at: int) -> AsyncGenerator[bytes, None]:
    """Ends early, as if that were all."""
    async for number, block in _numbered(blocks):
        if number == at:
            yield block[: len(block) // 2]
            return
        yield block


async def break_off(blocks: Stream, at: int) -> AsyncGenerator[bytes, None]:
    """Ends early with an error."""
    async for number, block in _numbered(blocks):
        if number == at:
            raise PeerUnreachable("the line is cut")
        yield block


async def flip(blocks: Stream, at: int) -> AsyncGenerator[bytes, None]:
    """One bit is another."""
    async for number, block in _numbered(blocks):
        middle = len(block) // 2
        spoilt = block[:middle] + bytes([block[middle] ^ 1]) + block[middle + 1 :]
        yield spoilt if number == at else block


async def drop(blocks: Stream, at: int) -> AsyncGenerator[bytes, None]:
    """One block is left out."""
    async for number, block in _numbered(blocks):
        if number != at:
            yield block


async def repeat(blocks: Stream, at: int) -> AsyncGenerator[bytes, None]:
    """One block comes twice."""
    async for number, block in _numbered(blocks):
        yield block
        if number == at:
            yield block


async def swap(blocks: Stream, at: int) -> AsyncGenerator[bytes, None]:
    """Two blocks change places."""
    held = b""
    async for number, block in _numbered(blocks):
        if number == at:
            held = block
            continue
        yield block
        if held:
            yield held
            held = b""


FAULTS = [cut, break_off, flip, drop, repeat, swap]


async def _numbered(blocks: Stream) -> AsyncGenerator[tuple[int, bytes], None]:
    number = 0
    async for block in blocks:
        yield number, block
        number += 1


class Spoilt:
    """A source whose streams of content have a fault in one of their blocks."""

    def __init__(self, source: Storage, fault: Fault, at: int) -> None:
        self._source = source
        self._fault = fault
        self._at = at

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    async def send(self, step: Step) -> AsyncGenerator[bytes, None]:
        async with (
            contextlib.aclosing(self._source.send(step)) as blocks,
            contextlib.aclosing(self._fault(blocks, self._at)) as spoilt,
        ):
            async for block in spoilt:
                yield block

    def tree_chunks(self, guid: Guid, wants: Sequence[tuple[bytes, int, int]]) -> Stream:
        return self._fault(self._source.tree_chunks(guid, wants), self._at)


class Mirrors:
    """A ledger in memory: which mirrors there are of the source's datasets."""

    def __init__(self) -> None:
        self._paths: dict[str, list[str]] = {}

    async def mirrors(self, source: Forest) -> dict[str, tuple[str, ...]]:
        return {path: tuple(self._paths.get(path, ())) for path in source.datasets}

    async def new_mirror(self, step: Step, here: Forest) -> str:
        paths = self._paths.setdefault(step.source, [])
        for path in paths:
            if path not in here.datasets or not here.datasets[path].snapshots:
                return path
        paths.append(mirror_path(new_id()))
        return paths[-1]

    def turn(self, step: Step) -> AbstractAsyncContextManager[None]:
        return contextlib.nullcontext()

    async def begins(self, step: Step, path: str, here: Forest) -> None:
        return

    async def landed(self, step: Step, path: str) -> None:
        return


class Pair:
    """Two storages, and a live generation on the first."""

    def __init__(self, source: Storage, target: Storage, path: str, *, zfs: bool) -> None:
        self.source = source
        self.target = target
        self.zfs = zfs
        self._path = path
        self._ledger = Mirrors()

    async def snapshot(self) -> Snapshot:
        """The source's state."""
        return await self.source.snapshot(self._path, snapshot_name(new_id()), TAG)

    async def ensure(self, wanted: Snapshot, fault: Fault | None = None, at: int = 0) -> Outcome:
        """Brings the snapshot to the target, unless the source spoils it."""
        source: Any = self.source if fault is None else Spoilt(self.source, fault, at)
        replication = Replication(source, self.target, self._ledger, lambda _progress: None)
        return await replication.ensure(Request((wanted.guid,), TAG))

    async def change(self, seed: int) -> None:
        """Changes the source's tree, by more than one block of a stream."""
        live = Path(await self.source.mount(self._path))
        trees.change(str(live), seed=seed)
        (live / f"srv/more-{seed}").write_bytes(Random(seed).randbytes(BIG_BYTES))

    async def whole(self) -> dict[str, tuple[Guid, ...]]:
        """What the target has for others to use: the snapshots of its datasets."""
        forest = await self.target.forest()
        return {d.path: tuple(s.guid for s in d.snapshots) for d in forest if not d.partial}

    async def assert_arrived(self, wanted: Snapshot) -> None:
        """A clone of the snapshot on the target has the source's tree."""
        copy = generation_path(new_id(), new_id())
        await self.target.clone(wanted.guid, copy)
        live = await self.source.mount(self._path)
        trees.assert_equal(live, await self.target.mount(copy), zfs=self.zfs)
        await self.target.unmount(copy)
        await self.target.destroy(copy)


@pytest.fixture(params=["dir", pytest.param("zfs", marks=pytest.mark.zfs)])
async def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Pair:
    zfs = request.param == "zfs"
    opened = []
    for name in ("one", "two"):
        for folder in ("mount", "locks", "root"):
            os.makedirs(tmp_path / name / folder)
        pool = request.getfixturevalue("zfs_pool")(name) if zfs else ""
        root = pool or str(tmp_path / name / "root")
        folders = [str(tmp_path / name / folder) for folder in ("mount", "locks")]
        opened.append(await open_storage(request.param, root, *folders))
    source, target = opened
    trees.make(str(tmp_path / "tree"), files=20, big_bytes=BIG_BYTES)
    taken = await source.take_in(
        str(tmp_path / "tree"), mirror_path(new_id()), snapshot_name(new_id()), lambda _: None
    )
    path = generation_path(new_id(), new_id())
    await source.clone(taken.guid, path)
    await source.mount(path)
    return Pair(source, target, path, zfs=zfs)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_a_fault_is_never_good(pair: Pair, fault: Fault) -> None:
    """Neither in a first transfer nor in an increment, at the start or further on; a good one
    afterwards succeeds."""
    for seed in (2, 3):
        wanted = await pair.snapshot()
        before = await pair.whole()
        for at in (0, 1):
            with pytest.raises(TransferError):
                await pair.ensure(wanted, fault, at)
            assert await pair.whole() == before
        outcome = await pair.ensure(wanted)
        assert outcome.receipts
        await pair.assert_arrived(wanted)
        await pair.change(seed)
