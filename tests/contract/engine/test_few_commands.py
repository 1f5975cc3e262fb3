"""How many `zfs` commands a job takes. Each that changes something waits for a transaction group,
and of each a process is started: for a small change they are the whole of the time. (OpenZFS takes
two more, for a bookmark and a mount.)"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.engine_world import World

pytestmark = pytest.mark.zfs

SAME_SERVER_MAX = 11
FIRST_THERE_MAX = 32
NEXT_THERE_MAX = 15
CHANGE_MAX = 31


async def test_a_copy_on_the_same_server(zfs_world: World, asked: list[Sequence[str]]) -> None:
    source = await zfs_world.create()
    await zfs_world.copy(source, zfs_world.here, "first")
    asked.clear()
    copy = await zfs_world.copy(source, zfs_world.here, "second")
    assert len(asked) <= SAME_SERVER_MAX, asked
    changing = [argv[1] for argv in asked if argv[1] not in ("get", "send")]
    assert sorted(changing) == [
        "clone",
        "destroy",
        "hold",
        "release",
        "set",
        "snapshot",
        "snapshot",
    ]
    assert (await zfs_world.live(copy) / "file").read_text() == "first"
    for place in zfs_world.places:
        assert await zfs_world.findings(place) == []


async def test_copies_to_another_server_and_a_sync(
    zfs_world: World, asked: list[Sequence[str]]
) -> None:
    """The first one ships two snapshots, the next one none, the sync one."""
    source = await zfs_world.create()
    for name, limit in (("first", FIRST_THERE_MAX), ("second", NEXT_THERE_MAX)):
        asked.clear()
        copy = await zfs_world.copy(source, name=name)
        assert len(asked) <= limit, asked
    (await zfs_world.live(source) / "file").write_text("changed")
    asked.clear()
    assert (await zfs_world.sync(copy))["strategy"] == "incremental"
    assert len(asked) <= CHANGE_MAX, asked
    assert (await zfs_world.live(copy) / "file").read_text() == "changed"
