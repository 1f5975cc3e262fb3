"""Many mounts at once: without their lock, zfs-fuse's listener was wedged within fifteen rounds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from transfer import command
from transfer.storage.zfs_command import Zfs

pytestmark = pytest.mark.zfs

AT_ONCE = 12
ROUNDS = 15
ANSWER_SECONDS = 60.0


async def test_mounts_that_come_at_once_all_answer(
    zfs_pool: Callable[..., str], tmp_path: Path
) -> None:
    zfs = Zfs(zfs_pool("one"))
    places = {f"one/{number}": str(tmp_path / str(number)) for number in range(AT_ONCE)}
    for name, place in places.items():
        await zfs.do("create", "-o", f"mountpoint={place}", "-o", "canmount=noauto", name)
        await zfs.do("unmount", name, harmless=["not currently mounted"])
    for _ in range(ROUNDS):
        await asyncio.gather(*(zfs.do("mount", name) for name in places))
        for name, place in places.items():
            argv = ["stat", "--file-system", place]
            assert (await command.run(argv, deadline_seconds=ANSWER_SECONDS)).status == 0
            await zfs.do("unmount", name)
