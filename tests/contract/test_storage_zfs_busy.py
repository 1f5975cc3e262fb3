"""Each thing that keeps a dataset busy is named, and a receive that nobody feeds is ended: on real
pools. The same test code on zfs-fuse and on OpenZFS."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.kernel_zfs import KERNEL
from tests.zfs_servers import TAG, Servers, full_step, mirror, open_servers
from transfer import command
from transfer.errors import DatasetBusy
from transfer.model import Snapshot, Step
from transfer.storage.zfs_command import Zfs
from transfer.storage.zfs_proc import stream_of
from transfer.storage.zfs_stale import end_stale

pytestmark = pytest.mark.zfs

BYTES = 8 << 20
_LEAVES = """
import subprocess, sys
nothing = subprocess.DEVNULL
print(subprocess.Popen(sys.argv[1:], stdout=nothing, stderr=nothing).pid)
"""


@pytest.fixture
async def servers(zfs_pool: Callable[..., str], tmp_path: Path) -> Servers:
    return await open_servers(zfs_pool, tmp_path)


async def causes(deed: Awaitable[None]) -> tuple[object, str]:
    """Why a deed is refused, and what the error says."""
    with pytest.raises(DatasetBusy) as busy:
        await deed
    return busy.value.evidence["causes"], busy.value.message


def full_name(snapshot: Snapshot, pool: str = "one") -> str:
    return f"{pool}/{snapshot.dataset}@{snapshot.name}"


async def most_of(servers: Servers, step: Step) -> bytes:
    """So much of a stream that who took it has begun with it, for no socket holds as much."""
    async with contextlib.aclosing(servers.source.send(step)) as blocks:
        return b"".join([block async for block in blocks])[: BYTES * 3 // 4]


async def test_a_hold(servers: Servers) -> None:
    held = await servers.snapshot()
    found, message = await causes(Zfs("one").do("destroy", full_name(held)))
    assert found == ["hold"]
    assert f"{full_name(held)} is held 1 times" in message


async def test_a_mount_in_use(servers: Servers) -> None:
    directory = servers.source.rootfs(servers.path)
    with open(os.path.join(directory, "open"), "w", encoding="ascii"):
        found, message = await causes(Zfs("one").do("unmount", f"one/{servers.path}"))
    assert found == ["mount"]
    assert directory in message


async def test_a_clone(servers: Servers) -> None:
    origin = await servers.snapshot()
    await servers.clone(origin)
    await servers.source.release([origin.guid], TAG)
    found, _ = await causes(Zfs("one").do("destroy", full_name(origin)))
    assert found == ["clone"]


async def test_a_running_receive(servers: Servers) -> None:
    servers.write("first", BYTES)
    path = mirror()
    stream = await most_of(servers, full_step(await servers.snapshot()))
    async with command.writing(["zfs", "receive", f"two/{path}"]) as child:
        await child.write(stream)
        found, message = await causes(Zfs("two").do("destroy", f"two/{path}"))
    assert found == ["receive"]
    assert f"process {child.pid} runs zfs receive of two/{path}" in message


class Left:
    """A `zfs receive` whose parent is gone, and whose input is held open by the test."""

    def __init__(self, name: str) -> None:
        reader, self.input = os.pipe()
        argv = [sys.executable, "-c", _LEAVES, "zfs", "receive", name]
        done = subprocess.run(argv, stdin=reader, capture_output=True, check=True)
        os.close(reader)
        self.pid = int(done.stdout)

    def end_input(self) -> None:
        os.close(self.input)


async def test_a_receive_that_nobody_feeds_any_more(servers: Servers) -> None:
    """Its worker is gone, and still its input does not end: somebody else has hold of it."""
    servers.write("first", BYTES)
    step, path = full_step(await servers.snapshot()), mirror()
    left = Left(f"two/{path}")
    with contextlib.ExitStack() as stack:
        stack.callback(left.end_input)
        await asyncio.to_thread(os.write, left.input, await most_of(servers, step))
        assert stream_of(left.pid) is not None
        if not KERNEL:
            # The daemon of zfs-fuse reads on for as long as there is an input.
            await end_stale(f"two/{path}")
            stack.close()
        await servers.ship(step, path)
        assert stream_of(left.pid) is None
    assert await servers.names(path) == {"first"}
