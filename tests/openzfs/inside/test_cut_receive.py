"""What a receive that was cut keeps busy, where it can be gone on with."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.zfs_servers import TAG, Servers, increment, open_servers
from transfer import command
from transfer.errors import DatasetBusy
from transfer.storage.zfs_command import Zfs
from transfer.storage.zfs_text import RESUME

pytestmark = pytest.mark.zfs

CUT_BYTES = 4 << 20


@pytest.fixture
async def servers(zfs_pool: Callable[..., str], tmp_path: Path) -> Servers:
    return await open_servers(zfs_pool, tmp_path)


async def test_the_base_of_a_cut_receive_is_busy_for_its_sake(servers: Servers) -> None:
    first, path = await servers.full()
    servers.write("second", 2 * CUT_BYTES)
    step = increment(first, await servers.snapshot(), path)
    stream = b"".join([block async for block in servers.source.send(step)])
    argv = ["zfs", "receive", "-s", "-u", f"two/{path}"]
    subprocess.run(argv, input=stream[:CUT_BYTES], check=False, capture_output=True)
    zfs = Zfs("two", [RESUME])
    with pytest.raises(DatasetBusy) as busy:
        await zfs.do("destroy", f"two/{path}@{first.name}")
    assert "receive" in busy.value.evidence["causes"]
    assert f"a receive into two/{path} was cut" in busy.value.message
    await zfs.do("receive", "-A", f"two/{path}")
    await zfs.do("destroy", f"two/{path}@{first.name}")


async def test_a_send_that_runs_keeps_its_snapshot(servers: Servers) -> None:
    servers.write("first", 2 * CUT_BYTES)
    snapshot = await servers.snapshot()
    name = f"one/{snapshot.dataset}@{snapshot.name}"
    await Zfs("one").do("release", TAG, name)
    async with command.reading(["zfs", "send", name]) as child:
        assert await child.read()
        with pytest.raises(DatasetBusy, match=f"process {child.pid} runs zfs send") as busy:
            await Zfs("one").do("destroy", name)
    assert busy.value.evidence["causes"] == ["send"]
