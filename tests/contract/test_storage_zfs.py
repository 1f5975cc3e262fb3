"""Native streams between two pools: where they land, and what a bad one leaves (nothing)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest

from transfer.errors import (
    CannotExpress,
    InsufficientStorage,
    SourceChanged,
    StreamCorrupt,
    TransferError,
    VerifyMismatch,
)
from transfer.model import Landing, Snapshot, Step, StepKind
from transfer.storage.base import Source
from transfer.storage.zfs import ZfsStorage
from transfer.storage.zfs_command import Zfs

pytestmark = pytest.mark.zfs
TAG = "hoody-" + "1" * 24
FILE_BYTES = 24 << 20


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


@pytest.fixture
async def servers(zfs_pool: Callable[..., str], tmp_path: Path) -> Servers:
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


async def test_full_and_incremental(servers: Servers) -> None:
    first, path = await servers.full()
    servers.write("second", 1 << 20)
    second = await servers.snapshot()
    for _ in range(2):
        arrived = await servers.ship(increment(first, second, path), path)
        assert arrived.guid == second.guid
    assert await servers.names(path) == {"first", "second"}
    dataset = (await servers.target.inspect([path])).datasets[path]
    assert [one.guid for one in dataset.snapshots] == [first.guid, second.guid]
    assert not dataset.head_differs
    estimate = await servers.source.size(increment(first, second))
    assert 1 << 20 <= estimate < 2 << 20


async def test_a_received_mirror_is_never_mounted_nor_writable(servers: Servers) -> None:
    _, path = await servers.full()
    zfs = Zfs("two")
    row = await zfs.properties([f"two/{path}"], ["mountpoint", "readonly", "mounted"])
    assert row[f"two/{path}"] == {"mountpoint": "none", "readonly": "on", "mounted": "no"}


async def test_a_clone_goes_from_its_direct_origin(servers: Servers) -> None:
    first, path = await servers.full(4 << 20)
    copy = await servers.clone(first)
    servers.write("of the clone", path=copy)
    cloned = await servers.snapshot(copy)
    servers.write("later")
    later = await servers.snapshot()
    # The base lies behind the mirror's head by then, and receive finds it all the same.
    await servers.ship(increment(first, later, path), path)
    landed = mirror()
    step = increment(first, cloned)
    async with contextlib.aclosing(servers.source.send(step)) as blocks:
        stream_bytes = sum([len(block) async for block in blocks])
    assert stream_bytes < 64 << 10
    await servers.ship(step, landed)
    assert await servers.names(landed) == {"first", "of the clone"}
    assert (await servers.target.inspect([landed])).datasets[landed].origin == first.guid


async def test_a_base_behind_the_head_becomes_a_branch(servers: Servers) -> None:
    first, path = await servers.full()
    snapshots = []
    for name in ("second", "third"):
        servers.write(name)
        snapshots.append(await servers.snapshot())
    second, third = snapshots
    await servers.ship(increment(first, second, path), path)
    branch = mirror()
    step = replace(increment(first, third), landing=Landing.BRANCH)
    for _ in range(2):
        await servers.ship(step, branch)
    assert await servers.names(branch) == {"first", "second", "third"}
    assert await servers.names(path) == {"first", "second"}
    forest = await servers.target.forest()
    assert [one.guid for one in forest.lineage(third.guid)] == [third.guid, first.guid]
    assert [one.guid for one in forest.lineage(second.guid)] == [second.guid, first.guid]


async def cut(blocks: AsyncIterator[bytes], keep_bytes: int) -> AsyncIterator[bytes]:
    async for block in blocks:
        yield block[:keep_bytes]
        keep_bytes -= len(block)
        if keep_bytes <= 0:
            raise StreamCorrupt("cut by the test")


async def damaged(blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    at = 0
    async for block in blocks:
        yield block if at != 5 else block[:1000] + bytes([block[1000] ^ 1]) + block[1001:]
        at += 1


@pytest.mark.parametrize("keep_bytes", [100, 2000, FILE_BYTES // 2])
async def test_a_cut_stream_leaves_nothing(servers: Servers, keep_bytes: int) -> None:
    servers.write("first", FILE_BYTES)
    snapshot, path = await servers.snapshot(), mirror()
    step = full_step(snapshot)
    before = await servers.target.forest()
    async with contextlib.aclosing(servers.source.send(step)) as blocks:
        with pytest.raises(StreamCorrupt):
            await servers.target.receive(step, path, cut(blocks, keep_bytes))
    assert await servers.target.forest() == before
    await servers.ship(step, path)
    assert await servers.names(path) == {"first"}


async def test_a_stream_whose_trailer_fails_is_not_received(servers: Servers) -> None:
    """All bytes came, but the iterator does not end well: as when the digest is wrong."""
    first, path = await servers.full()
    servers.write("second", 1 << 20)
    step = increment(first, await servers.snapshot(), path)
    before = await servers.target.forest()

    async def without_trailer() -> AsyncIterator[bytes]:
        async for block in servers.source.send(step):
            yield block
        raise StreamCorrupt("the digest is wrong")

    with pytest.raises(StreamCorrupt):
        await servers.target.receive(step, path, without_trailer())
    after = await servers.target.forest()
    assert {one.guid for one in after.snapshots()} == {one.guid for one in before.snapshots()}
    await servers.ship(step, path)
    assert await servers.names(path) == {"first", "second"}


async def test_a_damaged_stream_leaves_nothing(servers: Servers) -> None:
    servers.write("first", FILE_BYTES)
    snapshot, path = await servers.snapshot(), mirror()
    step = full_step(snapshot)
    async with contextlib.aclosing(servers.source.send(step)) as blocks:
        with pytest.raises(StreamCorrupt):
            await servers.target.receive(step, path, damaged(blocks))
    assert path not in (await servers.target.forest()).datasets


async def test_a_failed_branch_is_taken_back(servers: Servers) -> None:
    first, path = await servers.full()
    servers.write("second")
    second = await servers.snapshot()
    await servers.ship(increment(first, second, path), path)
    servers.write("third", FILE_BYTES)
    third, branch = await servers.snapshot(), mirror()
    step = replace(increment(first, third), landing=Landing.BRANCH)
    before = await servers.target.forest()
    async with contextlib.aclosing(servers.source.send(step)) as blocks:
        with pytest.raises(StreamCorrupt):
            await servers.target.receive(step, branch, cut(blocks, FILE_BYTES // 2))
    after = await servers.target.forest()
    assert after.datasets.keys() == before.datasets.keys()
    assert {(one.guid, one.dataset) for one in after.snapshots()} == {
        (one.guid, one.dataset) for one in before.snapshots()
    }
    # As a worker that was killed in the middle leaves it: made and promoted, nothing received.
    zfs = Zfs("two")
    await zfs.do(
        "clone", "-o", f"hoody:branch-of=two/{path}", f"two/{path}@{first.name}", f"two/{branch}"
    )
    await zfs.do("promote", f"two/{branch}")
    for _ in range(2):
        await servers.target.destroy(branch)
    assert (await servers.target.forest()).datasets.keys() == before.datasets.keys()
    await servers.ship(step, branch)
    assert await servers.names(branch) == {"first", "second", "third"}


@pytest.mark.parametrize("wrong", ["snapshot", "base", "name"])
async def test_another_stream_than_planned_is_refused(servers: Servers, wrong: str) -> None:
    first, path = await servers.full()
    servers.write("second")
    step = increment(first, await servers.snapshot(), path)
    planned = {
        "snapshot": replace(step, snapshot="12345"),
        "base": replace(step, base="12345"),
        "name": replace(step, name=new_name()),
    }[wrong]
    before = await servers.target.forest()
    async with contextlib.aclosing(servers.source.send(step)) as blocks:
        with pytest.raises(VerifyMismatch):
            await servers.target.receive(planned, path, blocks)
    assert await servers.target.forest() == before


async def test_what_is_gone_from_the_source_is_told(servers: Servers) -> None:
    first, _ = await servers.full()
    servers.write("second")
    second = await servers.snapshot()
    await servers.source.release([first.guid], TAG)
    await servers.source.destroy_snapshot(servers.path, first.guid)
    for step in (full_step(first), increment(first, second)):
        with pytest.raises(SourceChanged):
            await anext(servers.source.send(step))


async def test_an_extension_of_a_head_that_moved_is_refused(servers: Servers) -> None:
    first, path = await servers.full()
    servers.write("second")
    second = await servers.snapshot()
    servers.write("third")
    third = await servers.snapshot()
    await servers.ship(increment(first, second, path), path)
    with pytest.raises(SourceChanged):
        await servers.ship(increment(first, third, path), path)


async def test_a_clone_without_its_origin_here_is_refused(servers: Servers) -> None:
    servers.write("first")
    first = await servers.snapshot()
    copy = await servers.clone(first)
    servers.write("of the clone", path=copy)
    cloned, path = await servers.snapshot(copy), mirror()
    with pytest.raises(SourceChanged):
        await servers.ship(increment(first, cloned), path)
    assert path not in (await servers.target.forest()).datasets


async def test_no_room_is_told(
    servers: Servers, zfs_pool: Callable[..., str], tmp_path: Path
) -> None:
    servers.write("first", 80 << 20)
    snapshot, path = await servers.snapshot(), mirror()
    os.makedirs(tmp_path / "small" / "mount")
    pool = zfs_pool("small", size_bytes=100 << 20)
    target = await ZfsStorage.open(pool, str(tmp_path / "small/mount"), str(tmp_path / "two/locks"))
    await Zfs("small").do("set", "quota=40m", "small/mirrors")
    step = full_step(snapshot)
    async with contextlib.aclosing(servers.source.send(step)) as blocks:
        with pytest.raises(InsufficientStorage):
            await target.receive(step, path, blocks)
    assert (await target.forest()).datasets == {}


def children_named(name: str) -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if name in child.cmdline():
                found.append(child)
    return found


@pytest.mark.parametrize("victim", ["receive", "send"])
async def test_a_killed_child_leaves_nothing(servers: Servers, victim: str) -> None:
    servers.write("first", FILE_BYTES)
    snapshot, path = await servers.snapshot(), mirror()
    step = full_step(snapshot)

    async def killing() -> AsyncIterator[bytes]:
        passed_bytes = 0
        async for block in servers.source.send(step):
            if passed_bytes < FILE_BYTES // 2 <= passed_bytes + len(block):
                for process in children_named(victim):
                    process.kill()
            passed_bytes += len(block)
            yield block

    with pytest.raises(TransferError):
        await servers.target.receive(step, path, killing())
    assert path not in (await servers.target.forest()).datasets
    assert children_named("send") == children_named("receive") == []
    await servers.ship(step, path)
    assert await servers.names(path) == {"first"}


async def test_a_cancelled_receive_leaves_nothing(servers: Servers) -> None:
    servers.write("first", FILE_BYTES)
    snapshot, path = await servers.snapshot(), mirror()
    step = full_step(snapshot)
    half_way = asyncio.Event()

    async def stopping() -> AsyncIterator[bytes]:
        passed_bytes = 0
        async with contextlib.aclosing(servers.source.send(step)) as blocks:
            async for block in blocks:
                yield block
                passed_bytes += len(block)
                if passed_bytes > FILE_BYTES // 2:
                    half_way.set()
                    await asyncio.Event().wait()

    stream = stopping()
    receiving = asyncio.create_task(servers.target.receive(step, path, stream))
    await half_way.wait()
    receiving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiving
    await stream.aclose()
    assert path not in (await servers.target.forest()).datasets
    assert children_named("send") == children_named("receive") == []


async def test_a_send_that_is_closed_early_ends_its_child(servers: Servers) -> None:
    servers.write("first", FILE_BYTES)
    step = full_step(await servers.snapshot())
    async with contextlib.aclosing(servers.source.send(step)) as blocks:
        assert len(await anext(blocks)) <= 1 << 20
        assert len(children_named("send")) == 1
    assert children_named("send") == []


async def test_a_half_made_intake_is_replaced(servers: Servers, tmp_path: Path) -> None:
    path = mirror()
    zfs = Zfs("one")
    await zfs.do("create", "-o", "hoody:partial=on", f"one/{path}")
    await zfs.do("snapshot", f"one/{path}@left")
    assert (await servers.source.inspect([path])).datasets[path].partial
    (tmp_path / "tree" / "file").write_text("x")
    name = new_name()
    await servers.source.take_in(str(tmp_path / "tree"), path, name, lambda _: None)
    dataset = (await servers.source.inspect([path])).datasets[path]
    assert [one.name for one in dataset.snapshots] == [name]
    assert not dataset.partial


async def test_a_retired_generation_takes_an_increment(servers: Servers) -> None:
    """Its head may differ from its newest snapshot; it is trimmed before it is extended."""
    first, _ = await servers.full()
    copy = f"containers/{new_id()}/{new_id()}"
    await servers.target.clone(first.guid, copy)
    Path(await servers.target.mount(copy), "local").write_text("local")
    here = await servers.target.snapshot(copy, new_name(), TAG)
    back = mirror()
    stream = increment(first, here)
    async with contextlib.aclosing(servers.target.send(stream)) as blocks:
        await servers.source.receive(stream, back, blocks)
    again = f"containers/{new_id()}/{new_id()}"
    await servers.source.clone(here.guid, again)
    Path(await servers.source.mount(again), "more").write_text("more")
    more = await servers.source.snapshot(again, new_name(), TAG)
    Path(servers.target.rootfs(copy), "unsaved").write_text("unsaved")
    retired = mirror()
    await servers.target.retire(copy, retired)
    landed = mirror()
    await servers.ship(increment(here, more), landed)
    assert await servers.names(landed) == {"first", "local", "more"}
    assert (await servers.target.inspect([landed])).datasets[landed].origin == here.guid


async def test_content_diff_is_refused(servers: Servers) -> None:
    source: Source = servers.source
    with pytest.raises(CannotExpress):
        await source.tree_root("1")
    with pytest.raises(CannotExpress):
        await anext(source.tree_nodes("1", [b""]))
