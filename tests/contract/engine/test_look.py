"""When a container was last changed, and how its copies stand to it: `updated_at`, `last_synced_at`
and `sync_state`, on both backends."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime, timedelta

import pytest

from daemon.actions import look
from daemon.api.showing import show
from daemon.model import Container, LookRow, new_id, now
from daemon.store import looks
from tests.engine_world import World


@pytest.fixture(params=["world", pytest.param("zfs_world", marks=pytest.mark.zfs)])
def place(request: pytest.FixtureRequest) -> World:
    """Two servers of each backend."""
    found: World = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def prod(place: World) -> Container:
    return await place.create("prod")


async def ask(world: World, container: Container) -> None:
    """What a GET does, and the keeper of the container's server."""
    async with world.db.write() as tx:
        await looks.ask(tx, container.id, now())
    server = world.place(container.server_id)
    await look.at_all_asked(world.db, server.storage, server.id)


async def updated(world: World, container: Container) -> datetime:
    """`updated_at` as a GET shows it."""
    await ask(world, container)
    return (await world.get(container.id)).updated_at


async def state(world: World, copied: Container) -> object:
    """`sync_state` as a GET shows it."""
    current = await world.get(copied.id)
    await ask(world, await world.get(current.source_container_id or ""))
    async with world.db.read() as tx:
        return (await show(tx, current))["sync_state"]


async def write(world: World, container: Container, text: str) -> None:
    (await world.live(container) / "file").write_text(text)


async def test_a_write_is_noticed_once(place: World, prod: Container) -> None:
    await place.copy(prod)
    before = await updated(place, prod)
    (await place.live(prod) / "file").read_text()
    assert await updated(place, prod) == before
    for text in ("one", "two"):
        wrote_at = now()
        await write(place, prod, text)
        after = await updated(place, prod)
        assert wrote_at <= after <= now()
        await place.settle(place.here)
        assert await updated(place, prod) == after


async def test_a_copy_follows_its_source(place: World, prod: Container) -> None:
    copied = await place.copy(prod)
    assert await state(place, copied) == "current"
    await write(place, prod, "later")
    assert await state(place, copied) == "behind"
    source = await place.get(prod.id)
    assert source.updated_at > (await place.get(copied.id)).updated_at
    await place.sync(copied)
    assert await state(place, copied) == "current"
    after, source = await place.get(copied.id), await place.get(prod.id)
    assert after.updated_at == after.last_synced_at
    assert source.updated_at <= after.updated_at


async def test_a_job_notices_without_a_look(place: World, prod: Container) -> None:
    copied = await place.copy(prod)
    await write(place, prod, "later")
    await place.sync(copied)
    source, after = await place.get(prod.id), await place.get(copied.id)
    assert source.updated_at == after.updated_at == after.last_synced_at
    assert source.updated_at > copied.updated_at


async def test_a_copys_own_writes_do_not_move_it(place: World, prod: Container) -> None:
    copied = await place.copy(prod)
    await write(place, copied, "local")
    await ask(place, copied)
    after = await place.get(copied.id)
    assert after.updated_at == copied.updated_at == copied.last_synced_at
    assert await state(place, copied) == "current"
    # A sync that finds the source unchanged still has the time of the anchor that it asked for.
    await place.sync(copied)
    again = await place.get(copied.id)
    assert again.updated_at == again.last_synced_at
    assert again.updated_at > after.updated_at


async def test_a_copy_of_a_copy_is_behind_what_its_source_became(
    place: World, prod: Container
) -> None:
    staging = await place.copy(prod, name="staging")
    dev = await place.copy(staging, place.here, name="dev")
    assert await state(place, dev) == "current"
    await write(place, staging, "local")
    assert await state(place, dev) == "behind"
    await place.sync(dev)
    assert await state(place, dev) == "current"
    await write(place, prod, "later")
    assert await state(place, dev) == "current"
    await place.sync(staging)
    assert await state(place, dev) == "behind"


async def test_a_restore_puts_copies_behind(place: World, prod: Container) -> None:
    first = await place.snapshot(prod)
    await write(place, prod, "later")
    copied = await place.copy(prod)
    assert await state(place, copied) == "current"
    await place.restore(prod, first)
    assert await state(place, copied) == "behind"
    assert (await place.get(prod.id)).updated_at > (await place.get(copied.id)).updated_at


async def test_a_copy_of_an_old_snapshot_is_behind(place: World, prod: Container) -> None:
    old = await place.snapshot(prod)
    assert await state(place, await place.copy(prod, snapshot=old, name="at-once")) == "current"
    await write(place, prod, "later")
    copied = await place.copy(prod, snapshot=old, name="late")
    assert await state(place, copied) == "behind"
    assert copied.last_synced_at == copied.updated_at == old.created_at


async def test_a_look_that_finds_nothing_to_look_at(place: World, prod: Container) -> None:
    """A container without a live generation, one whose dataset is gone, one deleted meanwhile."""
    empty = await place.add("empty")
    lost = await place.add("lost", generation_id=new_id())
    for container in (empty, lost):
        await ask(place, container)
        async with place.db.read() as tx:
            row = await looks.get(tx, container.id)
            assert await looks.asked_on(tx, place.here.id) == []
        assert (row.pending, row.written_at) == (False, None)
    await place.remove(prod)
    async with place.db.read() as tx:
        assert await looks.get(tx, prod.id) == LookRow(prod.id)


async def test_what_a_look_keeps_goes_with_the_copies(place: World, prod: Container) -> None:
    copied = await place.copy(prod)
    await write(place, prod, "later")
    await ask(place, prod)
    await place.settle(place.here)
    assert await place.findings(place.here) == []
    await place.remove(copied)
    for server in (place.there, place.here):
        await place.settle(server)
    live = (await place.forest(place.here)).datasets[place.path(await place.get(prod.id))]
    assert live.snapshots == ()


async def test_time_does_not_run_backwards(place: World, prod: Container) -> None:
    """The record was changed while a look was under way."""
    later = now() + timedelta(hours=1)
    await place.change(prod, updated_at=later)
    await place.copy(prod)
    await write(place, prod, "later")
    assert await updated(place, prod) == later


# --- what a sync leaves alone --------------------------------------------------------------------


async def test_a_sync_changes_nothing_of_the_record_but_its_times(
    place: World, prod: Container
) -> None:
    copied = await place.copy(prod)
    rule = {"direction": "in", "action": "deny", "protocol": "any"}
    port = {"type": "forward", "protocol": "tcp", "host_port": 8080, "container_port": 80}
    kept = {"firewall_rules": (rule,), "network_rules": (port,), "comment": "mine", "color": "#fff"}
    await place.change(copied, **kept, environment_vars={"A": "b"}, sync_schedule="0 3 * * *")
    before = await place.get(copied.id)
    await write(place, prod, "later")
    await place.sync(copied)
    after = await place.get(copied.id)
    moved = {
        field.name
        for field in fields(Container)
        if getattr(before, field.name) != getattr(after, field.name)
    }
    sizes = {"referenced_bytes", "unique_bytes"}
    assert moved - sizes == {"generation_id", "taken_guid", "last_synced_at", "updated_at"}
