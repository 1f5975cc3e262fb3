"""Schedules: at its due time a copy's own server queues one sync, as its owner could."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from daemon import scheduler
from daemon.model import Container, JobState, JobType, Status, new_id, now
from daemon.store import accounts, containers, schedules, servers
from tests.contract.api.api_world import Api, World
from tests.contract.api.timetable import (
    DAILY,
    MINUTELY,
    T0,
    TICK,
    begins,
    done,
    due,
    looked,
    scheduled,
)
from transfer.model import Capacity


@pytest.fixture
def said() -> Iterator[list[Any]]:
    """The lines so far, with what is bound."""
    with capture_logs(processors=[merge_contextvars]) as lines:
        yield lines


def lines_of(said: list[Any], event: str) -> list[tuple[str, object]]:
    return [(one["container_id"], one.get("code")) for one in said if one["event"] == event]


# --- setting one ---------------------------------------------------------------------------------


async def test_a_schedule_begins_with_the_first_due_time_after_it_is_set(api: Api) -> None:
    world = api.world
    copy = await world.copy_of(await world.container())
    path = f"/containers/{copy.id}"
    asked_at = now()
    await api.patch(path, {"sync_schedule": MINUTELY})
    first = await due(world, copy)
    assert asked_at < first.replace(second=0, microsecond=0) <= now() + timedelta(minutes=1)

    async with world.db.write() as tx:
        await schedules.put(tx, copy.id, asked_at)  # as if that was an hour ago
    for given in ({"sync_schedule": MINUTELY}, {"comment": "other"}, {}):
        await api.patch(path, given)
        assert await due(world, copy) == asked_at
    await api.patch(path, {"sync_schedule": DAILY})
    assert (await due(world, copy)).hour == 2
    await api.patch(path, {"sync_schedule": None})
    assert await begins(world, copy) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0 0 31 2 *", "has a bad day-of-month"),
        ("0 0 */31 2 1L", "names a time that never comes"),
        ("0 * * * * *", "must be cron text of five fields"),
    ],
)
async def test_one_that_has_no_due_time_is_refused(api: Api, text: str, reason: str) -> None:
    copy = await api.world.copy_of(await api.world.container())
    reply = await api.patch(f"/containers/{copy.id}", {"sync_schedule": text})
    assert reply.refusal == (400, "VALIDATION_ERROR")
    assert reply.body["details"] == {"sync_schedule": reason}
    assert await begins(api.world, copy) is None


# --- which syncs are queued, and when ------------------------------------------------------------


async def test_a_sync_is_queued_at_its_time_and_not_before(world: World) -> None:
    copy = await scheduled(world)
    at = await due(world, copy)
    assert await looked(world, at - TICK) == []
    (job,) = await looked(world, at)
    assert (job.type, job.state, job.params) == (
        JobType.SYNC,
        JobState.QUEUED,
        {"strategy": "auto", "was": "running"},
    )
    assert (job.container_id, job.source_container_id) == (copy.id, copy.source_container_id)
    assert (job.user_id, job.server_id) == (world.alice.id, world.here.id)
    stored = await world.stored(copy.id)
    assert stored is not None
    assert stored.status is Status.COPYING
    assert (await due(world, copy)).date() == at.date() + timedelta(days=1)
    assert await looked(world, at) == []
    assert await world.all_jobs() == [job]


async def test_each_due_time_has_one_sync_while_the_clock_moves(world: World) -> None:
    copy = await scheduled(world, MINUTELY)
    at, begun = T0, []
    while len(begun) < 10:
        awaited = await due(world, copy)
        for job in await looked(world, at):
            begun.append(awaited.replace(second=0, microsecond=0))
            await done(world, job)
        at += timedelta(seconds=1)
    assert begun == [T0 + timedelta(minutes=number) for number in range(1, 11)]


async def test_what_was_missed_is_made_up_for_by_one_sync(world: World) -> None:
    copy = await scheduled(world, MINUTELY)
    back = T0 + timedelta(days=9, seconds=30)
    (job,) = await looked(world, back)
    await done(world, job)
    after = await due(world, copy)
    assert back < after < back + timedelta(minutes=2)
    assert await looked(world, after - TICK) == []
    assert len(await looked(world, after)) == 1


async def test_only_the_copy_s_own_server_begins_it(world: World) -> None:
    copy = await scheduled(world, server_id=world.there.id)
    at = await due(world, copy)
    assert await looked(world, at, world.here) == []
    assert len(await looked(world, at, world.there)) == 1


async def test_a_copy_that_never_came_to_be_is_copied_again(world: World) -> None:
    copy = await scheduled(world, status=Status.ERROR, generation_id=None)
    (job,) = await looked(world, await due(world, copy))
    assert job.type is JobType.COPY


# --- what stands in the way ----------------------------------------------------------------------


async def assert_skipped(world: World, copy: Container, said: list[Any], code: str) -> None:
    """The due time has come, and one line tells why nothing begins; the next one is awaited."""
    at, before = await due(world, copy), await world.stored(copy.id)
    count = len(await world.all_jobs())
    assert await looked(world, at) == []
    assert lines_of(said, "scheduled sync skipped") == [(copy.id, code)]
    assert len(await world.all_jobs()) == count
    assert await world.stored(copy.id) == before
    assert await due(world, copy) > at
    assert await looked(world, at) == []
    assert len(lines_of(said, "scheduled sync skipped")) == 1


async def test_it_is_skipped_while_one_is_under_way(world: World, said: list[Any]) -> None:
    copy = await scheduled(world, status=Status.COPYING)
    await world.job(copy, JobType.SYNC)
    await assert_skipped(world, copy, said, "OPERATION_STATE_CONFLICT")


@pytest.mark.parametrize("status", [Status.RESTORING, Status.DELETING])
async def test_it_is_skipped_where_the_state_does_not_allow_it(
    world: World, said: list[Any], status: Status
) -> None:
    copy = await scheduled(world, status=status)
    await assert_skipped(world, copy, said, "OPERATION_STATE_CONFLICT")


async def test_it_is_skipped_while_a_start_is_queued(world: World, said: list[Any]) -> None:
    """The last check, after the copy's record was changed: nothing of that stays."""
    copy = await scheduled(world, status=Status.STOPPED)
    await world.job(copy, JobType.START)
    await assert_skipped(world, copy, said, "OPERATION_STATE_CONFLICT")


async def test_an_orphan_and_what_is_no_copy_are_skipped(world: World, said: list[Any]) -> None:
    orphan = await scheduled(world, source_container_id=new_id())
    await assert_skipped(world, orphan, said, "SOURCE_CONTAINER_NOT_FOUND")
    said.clear()
    plain = await scheduled(world, name="plain", source_container_id=None)
    await assert_skipped(world, plain, said, "CONTAINER_NOT_COPIED")


async def test_a_banned_user_s_schedules_do_not_run(world: World, said: list[Any]) -> None:
    copy = await scheduled(world)
    async with world.db.write() as tx:
        await accounts.set_banned(tx, world.alice.id, banned=True)
    await assert_skipped(world, copy, said, "ACCOUNT_BANNED")
    async with world.db.write() as tx:
        await accounts.set_banned(tx, world.alice.id, banned=False)
    assert len(await looked(world, await due(world, copy))) == 1


async def test_a_full_server_s_copies_are_skipped(world: World, said: list[Any]) -> None:
    copy = await scheduled(world)
    async with world.db.write() as tx:
        capacity = Capacity(1 << 40, 1 << 40, 1)
        await servers.beat(tx, world.here.id, capacity, now())
    await assert_skipped(world, copy, said, "INSUFFICIENT_STORAGE")


@pytest.mark.parametrize("world", [{"jobs_per_user": 2}], indirect=True)
async def test_it_waits_until_its_owner_has_fewer_jobs(world: World, said: list[Any]) -> None:
    copies = [await scheduled(world, name=f"copy{number}") for number in range(4)]
    at = max([await due(world, copy) for copy in copies])
    first = await looked(world, at)
    assert len(first) == 2
    assert len(lines_of(said, "scheduled sync waits")) == 2
    assert await looked(world, at + timedelta(hours=1)) == []
    for job in first:
        await done(world, job)
    rest = await looked(world, at + timedelta(hours=2))
    assert {job.container_id for job in [*first, *rest]} == {copy.id for copy in copies}
    assert len(rest) == 2
    for copy in copies:
        assert (await due(world, copy)).day == 17
    assert lines_of(said, "scheduled sync skipped") == []


async def test_a_text_that_an_earlier_version_took_ends_its_schedule(world: World) -> None:
    copy = await scheduled(world)
    async with world.db.write() as tx:
        await containers.change(tx, copy.id, sync_schedule="0 0 31 2 *")
    assert len(await looked(world, await due(world, copy))) == 1
    assert await begins(world, copy) is None


# --- the daemon's part ---------------------------------------------------------------------------


@asynccontextmanager
async def keeping(world: World) -> AsyncIterator[asyncio.Event]:
    """The part of the daemon of `here`; the event says that it woke the engine."""
    woken = asyncio.Event()
    part = scheduler.sync_in_time(world.db, world.deps.config, woken.set)
    task = asyncio.create_task(part)
    try:
        yield woken
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()


async def test_what_was_missed_is_begun_at_the_start_and_the_rest_at_its_time(
    world: World,
) -> None:
    missed = await scheduled(world)
    soon = await scheduled(world, name="soon")
    at = now() + timedelta(seconds=2)
    async with world.db.write() as tx:
        await schedules.put(tx, soon.id, at)
    async with keeping(world) as woken:
        await woken.wait()
        assert (await world.the_job()).container_id == missed.id
        woken.clear()
        await woken.wait()
    late = next(job for job in await world.all_jobs() if job.container_id == soon.id)
    assert late.created_at >= at
