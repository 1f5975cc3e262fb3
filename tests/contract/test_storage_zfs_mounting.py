"""Mounts of one machine come one after the other: without their lock, zfs-fuse's listener was
wedged within fifteen rounds of twelve at once."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from transfer import command
from transfer.storage.zfs_command import Zfs

pytestmark = pytest.mark.zfs

AT_ONCE = 12
ROUNDS = 15
ANSWER_SECONDS = 60.0
HELD_OFF_SECONDS = 2.0  # a mount takes a tenth


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


# Says that it has begun, and goes on when it is told to.
WAITS = """\
#!/bin/sh
echo > {here}/begun
read -r _ < {here}/go
exec {zfs} "$@"
"""
MOUNTS = """
import asyncio, sys
from transfer.storage.zfs_command import Zfs
asyncio.run(Zfs("two").do("mount", sys.argv[1]))
"""


async def test_a_mount_whose_caller_was_killed_still_holds_others_off(
    zfs_pool: Callable[..., str], tmp_path: Path
) -> None:
    zfs = Zfs(zfs_pool("two"))
    for name in ("two/a", "two/b"):
        place = tmp_path / name
        await zfs.do("create", "-o", "canmount=noauto", "-o", f"mountpoint={place}", name)
    for fifo in ("begun", "go"):
        os.mkfifo(tmp_path / fifo)
    wrapper = tmp_path / "zfs"
    wrapper.write_text(WAITS.format(here=tmp_path, zfs=shutil.which("zfs")))
    wrapper.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    killed = await asyncio.create_subprocess_exec(
        sys.executable, "-c", MOUNTS, "two/a", env=environment
    )
    await asyncio.to_thread((tmp_path / "begun").read_text)
    killed.send_signal(signal.SIGKILL)
    await killed.wait()
    other = asyncio.create_task(zfs.do("mount", "two/b"))
    done, _ = await asyncio.wait([other], timeout=HELD_OFF_SECONDS)
    assert not done
    await asyncio.to_thread((tmp_path / "go").write_text, "\n")
    await other
    assert os.path.ismount(tmp_path / "two/b")
    assert os.path.ismount(tmp_path / "two/a")
