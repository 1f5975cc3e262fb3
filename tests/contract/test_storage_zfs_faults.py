"""Native streams that are cut, damaged, wrong or killed: nothing of them stays."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests.kernel_zfs import KERNEL
from tests.zfs_servers import (
    FILE_BYTES,
    TAG,
    Servers,
    full_step,
    increment,
    mirror,
    new_name,
    open_servers,
)
from transfer.errors import (
    InsufficientStorage,
    SourceChanged,
    StreamCorrupt,
    TransferError,
    VerifyMismatch,
)
from transfer.model import Forest, Landing
from transfer.storage.zfs import ZfsStorage
from transfer.storage.zfs_command import Zfs

pytestmark = pytest.mark.zfs

ROOM_BYTES = 16 << 20


@pytest.fixture
async def servers(zfs_pool: Callable[..., str], tmp_path: Path) -> Servers:
    return await open_servers(zfs_pool, tmp_path)


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


async def whole(servers: Servers) -> Forest:
    """What the target has, without what OpenZFS keeps of a cut stream (test_storage_zfs_resume)."""
    forest = await servers.target.forest()
    return Forest.of(dataset for dataset in forest if not (KERNEL and dataset.token))


@pytest.mark.parametrize("keep_bytes", [100, 2000, FILE_BYTES // 2])
async def test_a_cut_stream_leaves_nothing(servers: Servers, keep_bytes: int) -> None:
    servers.write("first", FILE_BYTES)
    snapshot, path = await servers.snapshot(), mirror()
    step = full_step(snapshot)
    before = await servers.target.forest()
    async with contextlib.aclosing(servers.source.send(step)) as blocks:
        with pytest.raises(StreamCorrupt):
            await servers.target.receive(step, path, cut(blocks, keep_bytes))
    assert await whole(servers) == before
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
        # With the last block it would have ended by itself.
        gone, waiting = psutil.wait_procs(children_named("receive"), timeout=0.5)
        assert (len(gone), len(waiting)) == (0, 1)
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
    # Another clone of the base must not get the snapshots in the trunk's place.
    await servers.target.clone(first.guid, "containers/c/g")
    before = await servers.target.forest()
    async with contextlib.aclosing(servers.source.send(step)) as blocks:
        with pytest.raises(StreamCorrupt):
            await servers.target.receive(step, branch, cut(blocks, FILE_BYTES // 2))
    after = await whole(servers)
    assert after.datasets.keys() == before.datasets.keys()
    assert {(one.guid, one.dataset) for one in after.snapshots()} == {
        (one.guid, one.dataset) for one in before.snapshots()
    }
    # As a worker that was killed in the middle leaves it: made and promoted, nothing received.
    await servers.target.destroy(branch)
    zfs = Zfs("two")
    await zfs.do(
        "clone", "-o", f"hoody:branch-of={path}", f"two/{path}@{first.name}", f"two/{branch}"
    )
    await zfs.do("promote", f"two/{branch}")
    for _ in range(2):
        await servers.target.destroy(branch)
    after = await servers.target.forest()
    assert {(one.guid, one.dataset) for one in after.snapshots()} == {
        (one.guid, one.dataset) for one in before.snapshots()
    }
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
    await servers.source.destroy_bookmark(servers.path, first.guid)
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
    servers.write("first", 2 * ROOM_BYTES)
    snapshot, path = await servers.snapshot(), mirror()
    os.makedirs(tmp_path / "small" / "mount")
    pool = zfs_pool("small", size_bytes=100 << 20)
    target = await ZfsStorage.open(pool, str(tmp_path / "small/mount"), str(tmp_path / "two/locks"))
    await Zfs("small").do("set", f"quota={ROOM_BYTES}", "small/mirrors")
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
    assert path not in (await whole(servers)).datasets
    assert children_named("send") == children_named("receive") == []
    await servers.ship(step, path)
    assert await servers.names(path) == {"first"}


async def test_a_cancelled_receive_leaves_nothing(servers: Servers) -> None:
    servers.write("first", FILE_BYTES)
    snapshot, path = await servers.snapshot(), mirror()
    step = full_step(snapshot)
    half_way = asyncio.Event()

    async def stopping() -> AsyncGenerator[bytes, None]:
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
    assert path not in (await whole(servers)).datasets
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


async def test_a_killed_worker_leaves_nothing_that_stands_in_the_way(
    servers: Servers, tmp_path: Path
) -> None:
    """The process that feeds `zfs receive` gets SIGKILL in the middle; a new one does it again."""
    servers.write("first", FILE_BYTES)
    snapshot, path = await servers.snapshot(), mirror()
    code = (
        "import asyncio, sys\n"
        "from transfer import command\n"
        "async def main():\n"
        "    async with command.reading(['zfs', 'send', sys.argv[1]]) as source:\n"
        "        async with command.writing(['zfs', 'receive', sys.argv[2]]) as target:\n"
        "            for _ in range(8):\n"
        "                await target.write(await source.read())\n"
        "            print('half-way', flush=True)\n"
        "            await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    names = [f"one/{snapshot.dataset}@{snapshot.name}", f"two/{path}"]
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, *names, stdout=asyncio.subprocess.PIPE
    )
    assert worker.stdout is not None
    assert await worker.stdout.readline() == b"half-way\n"
    worker.kill()
    await worker.wait()
    await servers.ship(full_step(snapshot), path)
    assert await servers.names(path) == {"first"}
