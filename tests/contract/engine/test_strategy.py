"""`strategy` on zfs: what a job's result says is what was done."""

from __future__ import annotations

import os
from datetime import timedelta

import pytest

from daemon.actions.collect import Rules
from daemon.model import Container, now
from tests.engine_world import World

pytestmark = pytest.mark.zfs

BIG_BYTES = 2 << 20
LETS_GO = Rules(grace=timedelta(0), base_ttl=timedelta(seconds=1))


@pytest.fixture
async def prod(zfs_world: World) -> Container:
    """A container that is much larger than what is written to it later, however well its blocks
    are compressed on the disk."""
    source = await zfs_world.create("prod")
    (await zfs_world.live(source) / "big").write_bytes(os.urandom(BIG_BYTES))
    return source


async def write(world: World, container: Container, text: str) -> None:
    (await world.live(container) / "file").write_text(text)


async def test_a_first_copy_is_full_and_a_sync_an_increment(
    zfs_world: World, prod: Container
) -> None:
    copied, job = await zfs_world.begin_copy(prod)
    first = await zfs_world.carry_out(job)
    assert first is not None
    assert first["strategy"] == "full"
    await write(zfs_world, prod, "later")
    result = await zfs_world.sync(copied)
    assert result["strategy"] == "incremental"
    assert int(str(result["bytes_logical"])) < BIG_BYTES
    assert (await zfs_world.live(copied) / "file").read_text() == "later"


async def test_full_is_forced(zfs_world: World, prod: Container) -> None:
    copied = await zfs_world.copy(prod)
    for text in ("later", "later still"):
        await write(zfs_world, prod, text)
        result = await zfs_world.sync(copied, strategy="full")
        assert result["strategy"] == "full"
        assert int(str(result["bytes_logical"])) > BIG_BYTES
        assert (await zfs_world.live(copied) / "file").read_text() == text
    # It is a base like any other.
    await write(zfs_world, prod, "at last")
    assert (await zfs_world.sync(copied))["strategy"] == "incremental"


async def test_without_a_common_base_it_goes_full_and_says_so(
    zfs_world: World, prod: Container
) -> None:
    """The source's server has not heard of the copy's for too long, and let the base go; somebody
    has cleared away what OpenZFS remembers it by."""
    copied = await zfs_world.copy(prod)
    for _ in range(3):
        collector = zfs_world.collector(zfs_world.here, LETS_GO)
        await collector.run(now() + timedelta(days=1))
    for dataset in await zfs_world.forest(zfs_world.here):
        for mark in dataset.remains:
            await zfs_world.here.storage.destroy_bookmark(dataset.path, mark.guid)
    await write(zfs_world, prod, "later")
    result = await zfs_world.sync(copied)
    assert result["strategy"] == "full"
    assert int(str(result["bytes_logical"])) > BIG_BYTES
    assert (await zfs_world.live(copied) / "file").read_text() == "later"
