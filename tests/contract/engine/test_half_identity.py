"""An attempt that ends while the identity is put in leaves nothing of it in the live tree."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from daemon.actions import ACTIONS, generations
from daemon.actions.identity import Identity, put_identity
from daemon.states import Move
from tests.engine_world import World
from transfer.errors import StorageError


async def test_a_retry_begins_anew_where_an_identity_is_half_put_in(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that is killed between two calls of the kernel cannot be had in process: what it
    leaves is made here."""
    source = await world.create()
    etc = await world.live(source) / "etc"
    etc.mkdir(exist_ok=True)
    os.utime(etc, (1_000_000_000, 1_000_000_000))
    copy, job = await world.begin_copy(source)

    def half(tree: str, identity: Identity) -> None:
        put_identity(tree, identity)
        Path(tree, "etc/.hoody-half").write_text("not renamed yet, and the directory's time new")
        raise StorageError("killed")

    monkeypatch.setattr(generations, "put_identity", half)
    ctx = world.context(await world.claim(job))
    with pytest.raises(StorageError):
        await ACTIONS[job.type].run(ctx)
    monkeypatch.undo()
    await world.end(ctx.job, Move.REQUEUE)
    await world.carry_out(job)

    assert (await world.get(copy.id)).generation_id != ctx.recall("generation")
    live = await world.live(copy) / "etc"
    assert "hostname" in os.listdir(live)
    assert ".hoody-half" not in os.listdir(live)
    assert live.stat().st_mtime == 1_000_000_000
    for place in (world.here, world.there):
        await world.settle(place)
        assert await world.findings(place) == []
    paths = await world.paths(world.there)
    assert f"containers/{copy.id}/{ctx.recall('generation')}" not in paths
