"""A promote and a hold of what it takes over come one after the other: without their lock, zfs-fuse
waited for itself for ever within a few rounds, and all that wrote to the pool with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from transfer import command
from transfer.errors import DatasetBusy
from transfer.storage import zfs_turns
from transfer.storage.zfs_command import Zfs

pytestmark = pytest.mark.zfs

ROUNDS = 25
TAGS = 3
BIG_BYTES = 4 << 20  # more than a pipe holds


async def test_holds_and_promotes_that_meet_all_end(zfs_pool: Callable[..., str]) -> None:
    pool = zfs_pool("meet")
    zfs = Zfs(pool)
    trunk, other = f"{pool}/a", f"{pool}/b"
    await zfs.do("create", "-o", "mountpoint=none", trunk)
    await zfs.do("snapshot", f"{trunk}@h-1")
    for number in range(ROUNDS):
        await zfs.do("clone", "-o", "mountpoint=none", f"{trunk}@h-1", other)
        tags = [f"round-{number}-{one}" for one in range(TAGS)]
        held, _ = await asyncio.gather(
            asyncio.gather(*(_hold(zfs, tag, (trunk, other)) for tag in tags)),
            zfs.do("promote", other),
        )
        for tag, name in zip(tags, held, strict=True):
            assert name in (f"{trunk}@h-1", f"{other}@h-1")
            await zfs.do("release", tag, f"{other}@h-1")
        await zfs.do("destroy", trunk)
        trunk, other = other, trunk


async def _hold(zfs: Zfs, tag: str, names: tuple[str, str]) -> str:
    """Holds the snapshot under the name that it has just now; that."""
    for name in names:
        output = await zfs.ask("hold", tag, f"{name}@h-1")
        if output.status == 0:
            return f"{name}@h-1"
        assert "does not exist" in output.stderr
    raise AssertionError("the snapshot has no name")


async def test_who_promotes_does_not_wait_for_a_long_send(
    zfs_pool: Callable[..., str], tmp_path: Path
) -> None:
    """With it, the whole pool would wait for whoever reads the stream."""
    pool = zfs_pool("sent")
    zfs = Zfs(pool)
    trunk, other = f"{pool}/a", f"{pool}/b"
    await zfs.do("create", "-o", f"mountpoint={tmp_path / 'a'}", trunk)
    (tmp_path / "a" / "big").write_bytes(Random(1).randbytes(BIG_BYTES))
    await zfs.do("snapshot", f"{trunk}@h-1")
    await zfs.do("clone", "-o", "mountpoint=none", f"{trunk}@h-1", other)
    argv = zfs_turns.in_turn(["zfs", "send", f"{trunk}@h-1"])
    async with command.reading(argv) as child:
        assert await child.read()
        with pytest.raises(DatasetBusy):
            await zfs.do("promote", other)
        await zfs.do("hold", "meanwhile", f"{trunk}@h-1")  # the pool goes on
        while await child.read():
            pass
        assert (await child.finish()).status == 0
    await zfs.do("release", "meanwhile", f"{trunk}@h-1")
    await zfs.do("promote", other)
