"""What ZFS does beyond zfs-fuse, found out by trying; the same test code on both."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kernel_zfs import KERNEL
from tests.zfs_servers import FILE_BYTES, Servers, full_step, increment, mirror, open_servers
from transfer.errors import TransferError
from transfer.model import RAW, Step
from transfer.storage.zfs import ZfsStorage
from transfer.storage.zfs_traits import TRAITS

pytestmark = pytest.mark.zfs

FLAGS = "Lec" if KERNEL else ""
LARGE_BYTES = 1 << 20


@pytest.fixture
async def servers(zfs_pool: Callable[..., str], tmp_path: Path) -> Servers:
    return await open_servers(zfs_pool, tmp_path)


async def sent_bytes(servers: Servers, step: Step) -> int:
    async with contextlib.aclosing(servers.source.send(step)) as blocks:
        return sum([len(block) async for block in blocks])


async def test_flags_are_those_of_the_program_and_the_pool(servers: Servers) -> None:
    for storage in (servers.source, servers.target):
        traits = await storage.traits()
        known = FLAGS + RAW if KERNEL else ""
        assert (traits.sends, traits.takes) == (known, known)


async def test_what_was_tried_is_remembered_for_the_same_program_only(
    servers: Servers, tmp_path: Path
) -> None:
    """What is remembered of another driver, or in another form, is tried again."""
    traits = await servers.source.traits()
    folders = [str(tmp_path / "one" / folder) for folder in ("mount", "locks")]
    for remembered in ("other 1 1 1 Lec:1:1", "other"):
        subprocess.run(["zfs", "set", f"{TRAITS}={remembered}", "one"], check=True)
        again = await ZfsStorage.open("one", *folders)
        assert await again.traits() == traits


async def test_the_size_of_a_stream_is_known_before(servers: Servers) -> None:
    first, _ = await servers.full(FILE_BYTES)
    servers.write("second", 4 << 20)
    second = await servers.snapshot()
    for step in (full_step(first), increment(first, second)):
        size_bytes = await servers.source.size(replace(step, flags=FLAGS))
        assert size_bytes == pytest.approx(
            await sent_bytes(servers, replace(step, flags=FLAGS)), rel=0.1
        )


async def test_an_unchanged_state_needs_no_snapshot(servers: Servers) -> None:
    first = await servers.snapshot()
    assert (await servers.snapshot()).guid == first.guid
    Path(servers.source.rootfs(servers.path), "one").touch()
    second = await servers.snapshot()
    assert second.guid != first.guid
    assert (second.written_bytes is not None) == KERNEL


async def test_a_lineage_keeps_its_flags(servers: Servers) -> None:
    """Large blocks arrive as they are; what came with them is refused without them."""
    name = f"one/{servers.path}"
    if KERNEL:
        subprocess.run(["zfs", "set", f"recordsize={LARGE_BYTES}", name], check=True)
    Path(servers.source.rootfs(servers.path), "large").write_bytes(os.urandom(4 * LARGE_BYTES))
    first, path = await servers.snapshot(), mirror()
    await servers.ship(replace(full_step(first), flags=FLAGS), path)
    there = (await servers.target.inspect([path])).datasets[path]
    assert there.flags == (FLAGS or None)
    servers.write("more")
    step = increment(first, await servers.snapshot(), path)
    if KERNEL:
        with pytest.raises(TransferError, match="large"):
            await servers.ship(step, path)
    await servers.ship(replace(step, flags=FLAGS), path)
    assert await servers.names(path) == {"large", "more"}
