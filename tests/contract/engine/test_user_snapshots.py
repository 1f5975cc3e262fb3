"""User snapshots: taken, restored, inherited, dropped, expired; on real storages."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from daemon.actions import ACTIONS, bring, history
from daemon.model import (
    Container,
    Job,
    JobType,
    Status,
    UserSnapshot,
    now,
    snapshot_params,
)
from daemon.states import Move
from daemon.store import user_snapshots
from tests.engine_world import World


async def snapshot(
    world: World, container: Container, text: str | None = None, **params: Any
) -> UserSnapshot:
    """Writes `text` on the container, where given, and takes a snapshot."""
    if text is not None:
        (await world.live(container) / "file").write_text(text)
    return await world.snapshot(container, **params)


async def listed(world: World, container: Container) -> list[UserSnapshot]:
    """What the container lists, oldest first."""
    return (await world.listed(container))[::-1]


async def drop(world: World, container: Container, entry: UserSnapshot) -> None:
    await world.delete_snapshot(replace(entry, container_id=container.id))


async def copy_of_snapshot(
    world: World, source: Container, entry: UserSnapshot
) -> tuple[Container, Job]:
    made = await world.add("old", world.there, source_container_id=source.id, status=Status.COPYING)
    return made, await world.queue(JobType.COPY, made, params=snapshot_params(entry))


async def text(world: World, container: Container) -> str:
    return (await world.live(container) / "file").read_text()


async def ids(world: World, container: Container) -> list[str]:
    return [entry.id for entry in await listed(world, container)]


# --- taking --------------------------------------------------------------------------------------


async def test_a_snapshot_is_listed_with_what_was_asked_for(
    world: World, source: Container
) -> None:
    before = now()
    entry = await snapshot(world, source, "one", alias="before", expiry_days=0.5)
    assert entry.name == f"snap-{entry.created_at:%Y%m%d-%H%M%S}"
    assert (entry.alias, entry.inherited, entry.last_used_at) == ("before", False, None)
    assert entry.expires_at == entry.created_at + timedelta(hours=12)
    assert before <= entry.created_at <= now()
    found = (await world.forest(world.here)).find(entry.guid)
    assert found is not None
    assert (found.name, found.holds) == (f"h-{entry.id}", 0)
    assert entry.referenced_bytes == found.referenced_bytes > 0
    assert (await world.get(source.id)).updated_at == entry.created_at


async def test_two_in_one_second_have_different_names(world: World, source: Container) -> None:
    first = await snapshot(world, source, "one")
    async with world.db.write() as tx:
        taken = await user_snapshots.names(tx, source.id)
    assert history.free_name(first.name, taken) == f"{first.name}-2"
    assert history.free_name(first.name, {*taken, f"{first.name}-2"}) == f"{first.name}-3"
    assert history.free_name(f"{first.name}-2", {f"{first.name}-2"}) == f"{first.name}-3"
    assert history.free_name("snap-20260101-000000", taken) == "snap-20260101-000000"


async def test_two_snapshots_of_one_state_are_two_entries(world: World, source: Container) -> None:
    first, second = await snapshot(world, source, "one"), await snapshot(world, source)
    assert (first.guid, first.id) != (second.guid, second.id)
    assert first.guid == second.guid
    await drop(world, source, first)
    await world.settle(world.here)
    await world.restore(source, second)
    assert await text(world, source) == "one"


async def test_a_snapshot_keeps_its_status_and_needs_a_live_generation(
    world: World, source: Container
) -> None:
    await world.change(source, status=Status.STOPPED)
    await snapshot(world, source)
    assert (await world.get(source.id)).status is Status.STOPPED
    empty = await world.add("empty", status=Status.STOPPED)
    job = await world.claim(await world.begin_snapshot(empty))
    with pytest.raises(Exception, match="no live generation"):
        await ACTIONS[JobType.SNAPSHOT].run(world.context(job))


async def test_a_snapshot_of_a_copy_does_not_move_when_it_was_updated(
    world: World, source: Container, copy: Container
) -> None:
    await snapshot(world, copy, "local")
    assert (await world.get(copy.id)).updated_at == copy.updated_at


# --- restoring -----------------------------------------------------------------------------------


async def test_a_restore_gives_the_state_back_and_loses_nothing(
    world: World, source: Container
) -> None:
    first = await snapshot(world, source, "one")
    second = await snapshot(world, source, "two")
    (await world.live(source) / "file").write_text("three")
    result = await world.restore(source, first)
    assert await text(world, source) == "one"
    assert result["snapshot"] == first.name
    after = await world.get(source.id)
    assert after.status is Status.RUNNING
    await world.settle(world.here)
    used, unused = await listed(world, source)
    assert used.last_used_at is not None
    assert (after.updated_at <= used.last_used_at, unused.last_used_at) == (True, None)
    await world.restore(source, second)
    assert await text(world, source) == "two"
    await world.restore(source, first)
    assert await text(world, source) == "one"


@pytest.mark.parametrize("was", [Status.RUNNING, Status.STOPPED])
async def test_a_restore_leaves_running_only_what_ran(
    world: World, source: Container, was: Status
) -> None:
    entry = await snapshot(world, source, "one")
    await world.change(source, status=was)
    await world.restore(source, entry)
    assert (await world.get(source.id)).status is was


@pytest.mark.parametrize("was", [Status.RUNNING, Status.STOPPED])
async def test_a_restore_that_fails_leaves_the_container_as_it_was(
    world: World, source: Container, was: Status
) -> None:
    entry = await snapshot(world, source, "one")
    await world.change(source, status=was)
    job = await world.claim(await world.begin_restore(source, entry))
    await world.end(job, Move.FAIL)
    after = await world.get(source.id)
    assert (after.status, after.generation_id) == (was, source.generation_id)


async def test_a_restore_keeps_what_was_deleted_from_the_list_meanwhile(
    world: World, source: Container
) -> None:
    entry = await snapshot(world, source, "one")
    (await world.live(source) / "file").write_text("two")
    job = await world.begin_restore(source, entry)
    await drop(world, source, entry)
    await world.settle(world.here)
    assert (await world.carry_out(job) or {})["snapshot"] is None
    assert await text(world, source) == "one"
    await world.settle(world.here)
    assert await listed(world, source) == []


async def test_branches_stay_restorable(world: World, source: Container) -> None:
    entries = [await snapshot(world, source, f"u{number}") for number in (1, 2, 3)]
    await world.restore(source, entries[0])
    entries.append(await snapshot(world, source, "u4"))
    copy = await world.copy(source)
    await world.settle(world.here)
    await world.settle(world.there)
    assert await ids(world, copy) == [entry.id for entry in entries]
    for number in (2, 4, 1, 3):
        await world.restore(copy, entries[number - 1])
        assert await text(world, copy) == f"u{number}"


# --- history -------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["here", "there"])
async def test_a_copy_inherits_and_a_sync_adds(world: World, source: Container, where: str) -> None:
    first = await snapshot(world, source, "one", alias="a", expiry_days=9)
    copy = await world.copy(source, getattr(world, where))
    (inherited,) = await listed(world, copy)
    assert inherited == replace(first, container_id=copy.id, inherited=True)
    second = await snapshot(world, source, "two")
    own = await snapshot(world, copy, "local")
    await world.sync(copy)
    found = {entry.id: entry for entry in await listed(world, copy)}
    assert found.keys() == {first.id, second.id, own.id}
    assert [found[one.id].inherited for one in (first, second, own)] == [True, True, False]
    await world.restore(copy, found[own.id])
    assert await text(world, copy) == "local"
    assert len(await listed(world, copy)) == 3


async def test_what_was_deleted_on_the_copy_does_not_come_back(
    world: World, source: Container, copy: Container
) -> None:
    first = await snapshot(world, source, "one")
    await world.sync(copy)
    await drop(world, copy, first)
    second = await snapshot(world, source, "two")
    await world.sync(copy)
    assert await ids(world, copy) == [second.id]
    assert await ids(world, source) == [first.id, second.id]
    # Once it has left the source's list too, there is nothing to remember any more.
    await drop(world, source, first)
    await world.sync(copy)
    async with world.db.read() as tx:
        assert await user_snapshots.had(tx, copy.id) == {second.id}


async def test_what_is_deleted_on_the_source_stays_on_the_copy(
    world: World, source: Container, copy: Container
) -> None:
    first = await snapshot(world, source, "one")
    await snapshot(world, source, "two")
    await world.sync(copy)
    for entry in await listed(world, source):
        await drop(world, source, entry)
    await world.sync(copy)
    for place in (world.here, world.there):
        await world.settle(place)
    assert (await world.forest(world.here)).find(first.guid) is None
    await world.restore(copy, first)
    assert await text(world, copy) == "one"


async def test_an_incoming_name_that_is_taken_gets_a_number(
    world: World, source: Container, copy: Container
) -> None:
    own = await snapshot(world, copy, "local")
    theirs = await snapshot(world, source, "one")
    async with world.db.write() as tx:
        await user_snapshots.change(tx, source.id, theirs.id, name=own.name)
    await world.sync(copy)
    assert [entry.name for entry in await listed(world, copy)] == [own.name, f"{own.name}-2"]


async def test_what_left_the_sources_list_during_the_transfer_is_not_inherited(
    world: World, source: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, kept = await snapshot(world, source, "one"), await snapshot(world, source, "two")
    put_live = bring.put_live

    async def after_a_delete(*args: Any) -> None:
        await drop(world, source, gone)
        await put_live(*args)

    monkeypatch.setattr(bring, "put_live", after_a_delete)
    copy = await world.copy(source)
    assert await ids(world, copy) == [kept.id]


async def test_what_is_over_is_not_inherited(world: World, source: Container) -> None:
    entry = await snapshot(world, source, "one", expiry_days=1)
    async with world.db.write() as tx:
        await user_snapshots.change(tx, source.id, entry.id, expires_at=now())
    copy = await world.copy(source)
    assert await listed(world, copy) == []


async def test_new_snapshots_of_an_unchanged_source_come_without_a_stop(
    world: World, source: Container, copy: Container
) -> None:
    entry = await snapshot(world, source)
    result = await world.sync(copy)
    after = await world.get(copy.id)
    assert (result["strategy"], after.generation_id) == ("unchanged", copy.generation_id)
    assert await ids(world, copy) == [entry.id]


async def test_a_copy_that_was_restored_is_brought_back_by_an_unchanged_source(
    world: World, source: Container
) -> None:
    entry = await snapshot(world, source, "one")
    (await world.live(source) / "file").write_text("two")
    copy = await world.copy(source)
    await world.restore(copy, entry)
    assert (await world.sync(copy))["strategy"] == "unchanged"
    assert await text(world, copy) == "two"


async def test_a_deleted_source_leaves_its_history_to_its_copies(
    world: World, source: Container
) -> None:
    entries = [await snapshot(world, source, f"u{number}") for number in (1, 2)]
    beside = await world.copy(source, world.here, "beside")
    away = await world.copy(source, world.there, "away")
    await world.remove(source)
    for place in (world.here, world.there):
        await world.settle(place)
    for orphan in (beside, away):
        assert await ids(world, orphan) == [entry.id for entry in entries]
        await world.restore(orphan, entries[0])
        assert await text(world, orphan) == "u1"
    assert await listed(world, source) == []


# --- a copy of a snapshot ------------------------------------------------------------------------


async def test_a_copy_of_a_snapshot_has_its_state_and_what_is_not_newer(
    world: World, source: Container
) -> None:
    entries = [await snapshot(world, source, f"u{number}") for number in (1, 2, 3)]
    made, job = await copy_of_snapshot(world, source, entries[1])
    await world.carry_out(job)
    assert await text(world, made) == "u2"
    assert await ids(world, made) == [entries[0].id, entries[1].id]
    after = await world.get(made.id)
    assert (after.last_synced_at, after.taken_guid) == (entries[1].created_at, entries[1].guid)
    used = [entry.last_used_at is not None for entry in await listed(world, source)]
    assert used == [False, True, False]
    assert [entry.last_used_at for entry in await listed(world, made)] == [None, None]
    await world.sync(made)
    assert await text(world, made) == "u3"
    assert await ids(world, made) == [entry.id for entry in entries]


async def test_a_copy_of_a_snapshot_that_left_the_list_meanwhile_ends_well(
    world: World, source: Container
) -> None:
    entries = [await snapshot(world, source, f"u{number}") for number in (1, 2)]
    made, job = await copy_of_snapshot(world, source, entries[1])
    await drop(world, source, entries[1])
    (await world.live(source) / "file").write_text("later")
    await world.settle(world.here)
    await world.carry_out(job)
    assert await text(world, made) == "u2"
    assert await ids(world, made) == [entries[0].id]


# --- expiry --------------------------------------------------------------------------------------


async def test_expiry_takes_off_what_is_over_and_nobody_reads(
    world: World, source: Container, copy: Container
) -> None:
    over, read, kept = [
        await snapshot(world, source, f"u{number}", expiry_days=1) for number in (1, 2, 3)
    ]
    await world.sync(copy)
    async with world.db.write() as tx:
        for entry in (over, read):
            await user_snapshots.change(tx, source.id, entry.id, expires_at=now())
    _copy, job = await copy_of_snapshot(world, source, read)
    result = await world.carry_out(await world.begin_expire(source))
    assert result == {"expired": [over.name]}
    assert await ids(world, source) == [read.id, kept.id]
    await world.carry_out(job)
    await world.carry_out(await world.begin_expire(source))
    assert await ids(world, source) == [kept.id]
    assert len(await listed(world, copy)) == 3
