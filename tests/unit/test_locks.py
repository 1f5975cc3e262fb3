"""Locks exclude tasks and processes alike, and leave no file."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from transfer.errors import DatasetBusy
from transfer.storage.locks import locked


async def test_one_at_a_time(tmp_path: Path) -> None:
    inside = 0

    async def enter() -> None:
        nonlocal inside
        async with locked(str(tmp_path), "containers/a/b"):
            inside += 1
            await asyncio.sleep(0)
            assert inside == 1
            inside -= 1

    await asyncio.gather(*(enter() for _ in range(20)))
    assert os.listdir(tmp_path) == []


async def test_other_names_do_not_wait(tmp_path: Path) -> None:
    async with locked(str(tmp_path), "a"), locked(str(tmp_path), "b", wait_seconds=0.1):
        with pytest.raises(DatasetBusy):
            async with locked(str(tmp_path), "a", wait_seconds=0.05):
                pass


async def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys\n"
        "from transfer.storage.locks import locked\n"
        "async def main():\n"
        "    async with locked(sys.argv[1], 'a'):\n"
        "        print('locked', flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert other.stdout is not None
    assert await other.stdout.readline() == b"locked\n"
    with pytest.raises(DatasetBusy):
        async with locked(str(tmp_path), "a", wait_seconds=0.05):
            pass
    other.kill()
    await other.wait()
    async with locked(str(tmp_path), "a"):
        pass


async def test_processes_that_meet_at_a_release_exclude_each_other(tmp_path: Path) -> None:
    """The file is removed at each release; who had opened it before must not take it for the
    lock: the counter would lose an increment."""
    code = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from transfer.storage import locks\n"
        "locks.POLL_SECONDS = 0\n"
        "async def main():\n"
        "    counter = Path(sys.argv[2])\n"
        "    for _ in range(300):\n"
        "        async with locks.locked(sys.argv[1], 'a'):\n"
        "            count = int(counter.read_text())\n"
        "            counter.write_text(str(count + 1))\n"
        "asyncio.run(main())\n"
    )
    (tmp_path / "locks").mkdir()
    counter = tmp_path / "counter"
    counter.write_text("0")
    argv = [sys.executable, "-c", code, str(tmp_path / "locks"), str(counter)]
    processes = [await asyncio.create_subprocess_exec(*argv) for _ in range(4)]
    assert [await process.wait() for process in processes] == [0] * 4
    assert counter.read_text() == "1200"
