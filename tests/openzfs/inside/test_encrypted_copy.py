"""Copies of containers on an encrypted root, to a server that has the key and to one that has not.
The job, the planner and the catalogue are the real ones."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.store.database import Database
from daemon.store.schema import metadata
from tests.engine_world import World
from tests.openzfs.inside.encrypted import create_encrypted, new_key, zfs
from transfer.errors import EncryptionMismatch, KeyUnavailable
from transfer.storage import open_storage

pytestmark = pytest.mark.zfs


@pytest.fixture
def key(tmp_path: Path) -> str:
    return new_key(tmp_path / "key")


@pytest.fixture
async def world(tmp_path: Path, zfs_pool: Callable[..., str], key: str) -> AsyncIterator[World]:
    """`here` is encrypted; `there` is not, and knows no key."""
    url = f"sqlite:///{tmp_path}/catalogue.db"
    db = Database(url)
    async with db.write() as tx:
        await tx.run_sync(metadata.create_all)
    made, roots = World(db, url, tmp_path), {}
    for name in ("here", "there"):
        roots[name] = f"{zfs_pool(name)}/hoody"
    create_encrypted(roots["here"], key)
    zfs("create", roots["there"])
    await made.fill(zfs_roots=roots)
    yield made
    await db.close()


async def reopen(world: World) -> None:
    """The other server's daemon starts again."""
    place = world.there
    settings = place.config.storage
    storage = await open_storage(
        settings.backend, settings.root, settings.mount_root, place.config.server.state_dir
    )
    world.places[1] = replace(place, storage=storage)


async def test_a_copy_needs_the_key_before_a_byte_moves(world: World, key: str) -> None:
    source = await world.create()
    _, job = await world.begin_copy(source)
    with pytest.raises(KeyUnavailable) as caught:
        await world.carry_out(job)
    assert (caught.value.code, caught.value.retryable) == ("ENCRYPTION_KEY_UNAVAILABLE", False)
    assert not (await world.forest(world.there)).datasets
    zfs("set", f"hoody:keylocation={key}", world.there.config.storage.root)
    await reopen(world)
    copy = await world.copy(source, name="copy-2")
    assert (await world.live(copy) / "file").read_text() == "first"
    (await world.live(source) / "file").write_text("second")
    assert (await world.sync(copy))["strategy"] == "incremental"
    assert (await world.live(copy) / "file").read_text() == "second"
    for place in world.places:
        await world.settle(place)
        assert all(dataset.encrypted for dataset in await world.forest(place))


async def test_a_pair_that_was_plain_stays_plain(world: World, key: str) -> None:
    """As where a mirror had come as plain text into an encrypted parent: it is no base."""
    zfs("set", f"hoody:keylocation={key}", world.there.config.storage.root)
    await reopen(world)
    source = await world.create()
    copy = await world.copy(source)
    forest = await world.forest(world.there)
    for dataset in forest:
        if dataset.is_mirror:
            zfs("set", "hoody:flags=Lec", f"{world.there.config.storage.root}/{dataset.path}")
    (await world.live(source) / "file").write_text("second")
    with pytest.raises(EncryptionMismatch):
        await world.sync(copy)
    assert (await world.live(copy) / "file").read_text() == "first"
