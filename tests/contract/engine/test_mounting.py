"""What a keeper does first: everything that is live gets mounted, and the daemon hears of each."""

from __future__ import annotations

import json
import os

import pytest

from daemon.keeper import mount_all
from tests.engine_world import World


async def test_the_daemon_hears_of_each_mount(
    world: World, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    ours = [await world.create(name) for name in ("one", "two")]
    await world.copy(ours[0])  # to the other server
    here = world.place(ours[0].server_id)
    live = {one.id: await world.live(one) for one in ours}
    for one in ours:
        os.unlink(os.path.join(here.config.storage.mount_root, one.id, "current"))
    capfdbinary.readouterr()
    await mount_all(world.db, here.storage, here.config)
    told = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert sorted(message["mounting"] for message in told) == sorted(one.id for one in ours)
    assert {one.id: await world.live(one) for one in ours} == live
    for one in ours:
        current = os.path.join(here.config.storage.mount_root, one.id, "current")
        assert os.path.samefile(current, live[one.id])
