"""When the collector looks at the whole storage, which costs more the more there is: not for jobs
that leave nothing, soon for what ended jobs left half-made, and now and then in any case."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from daemon.actions.collect import Collector, Rules
from daemon.children import Child
from daemon.condition import Condition
from daemon.keeper import COLLECT_SECONDS, COLLECT_SECONDS_MAX, is_due, pause_after
from daemon.model import Container, DatasetRow, Role, new_id, now
from daemon.states import Move
from daemon.store import datasets, holdings
from tests.contract.engine.stand_in import StandIn
from tests.contract.engine.test_collect_beside import Tied
from tests.engine_world import Place, World

GRACE = Rules(grace=timedelta(minutes=10), base_ttl=timedelta(days=30))
SYNCS = 20
LONG = 7.0
"""Seconds that a look at a large storage takes."""


@pytest.fixture
def told() -> asyncio.Event:
    """That a job has ended which may have left something."""
    return asyncio.Event()


@pytest.fixture
async def collector(world: World, copy: Container) -> Collector:
    """Of the copy's server, after a round."""
    made = world.collector(world.there, GRACE)
    await made.run(now())
    return made


async def leave(world: World, place: Place, job_id: str) -> DatasetRow:
    """A dataset that a job has begun on a server."""
    path = f"mirrors/{new_id()}"
    await place.storage.take_in(str(world.tree), path, f"h-{new_id()}", lambda _: None)
    row = DatasetRow(new_id(), place.id, Role.MIRROR, new_id(), path, job_id=job_id)
    async with world.db.write() as tx:
        await datasets.insert(tx, row)
    return row


async def test_jobs_that_leave_nothing_need_no_look(
    world: World, copy: Container, collector: Collector, told: asyncio.Event
) -> None:
    collector.look_seconds = LONG
    for _ in range(SYNCS):
        assert (await world.sync(copy))["strategy"] == "unchanged"
        assert not await collector.is_urgent()
        assert not await is_due(collector, pause_after(LONG) - 1, told)


async def test_the_keeper_is_told_of_jobs_that_may_leave_something(
    world: World, copy: Container, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stand-in answers all that it is told."""
    stand_in = StandIn(tmp_path, monkeypatch)
    stand_in.say("none", '{"heard": "collect"}')
    stand_in.say("last", '{"heard": "last"}')
    keeper = await Child.start("keeper", stand_in.config_path)
    condition, job = Condition(keeper=keeper), await world.begin_sync(copy)
    for _ in range(SYNCS):
        condition.collect_after(replace(job, result={"strategy": "unchanged"}))
    condition.collect_after(replace(job, result={"strategy": "incremental"}))
    condition.collect_after(replace(job, result=None))
    keeper.tell({"job": "last"})
    heard = []
    while {"heard": "last"} not in heard:
        heard.append(await keeper.read())
    await keeper.kill()
    assert heard == [{"ready": True}, {"heard": "collect"}, {"heard": "collect"}, {"heard": "last"}]


@pytest.mark.parametrize("look_seconds", [0.0, 0.1, LONG, 40.0])
async def test_there_is_a_look_now_and_then(
    collector: Collector, told: asyncio.Event, look_seconds: float
) -> None:
    collector.look_seconds = look_seconds
    fair = pause_after(look_seconds)
    pause = max(fair, COLLECT_SECONDS)
    assert not await is_due(collector, pause - 0.001, told)
    assert await is_due(collector, pause, told)
    told.set()
    assert await is_due(collector, fair, told)
    assert not await is_due(collector, fair - 0.001, told)


def test_a_long_look_is_followed_by_a_long_pause() -> None:
    assert pause_after(0.9) == 0
    assert pause_after(3.0) == 20
    assert pause_after(3600) == COLLECT_SECONDS_MAX


async def test_what_an_ended_job_left_half_made_does_not_wait(
    world: World, copy: Container, collector: Collector, told: asyncio.Event
) -> None:
    """Also what a job of another server held, of which nobody here is told."""
    collector.look_seconds = LONG
    job = await world.claim(await world.begin_sync(copy))
    row = await leave(world, world.there, job.id)
    async with world.db.write() as tx:
        await holdings.add(tx, job.id, world.there.id)
    assert not await is_due(collector, COLLECT_SECONDS, told)  # the job still runs
    await world.end(job, Move.FAIL)
    assert not await is_due(collector, COLLECT_SECONDS - 0.001, told)
    assert await is_due(collector, COLLECT_SECONDS, told)
    assert row.path in [deed.path for deed in await collector.run(now())]
    assert row.path not in await world.paths(world.there)
    collector.look_seconds = LONG
    assert not await is_due(collector, COLLECT_SECONDS, told)


async def test_holds_that_an_ended_job_left_do_not_wait(
    world: World, copy: Container, collector: Collector
) -> None:
    job = await world.claim(await world.begin_sync(copy))
    async with world.db.write() as tx:
        await holdings.add(tx, job.id, world.there.id)
    assert not await collector.is_urgent()
    await world.end(job, Move.FAIL)
    assert await collector.is_urgent()
    await collector.run(now())
    assert not await collector.is_urgent()


async def test_what_was_begun_in_a_whole_mirror_does_not_wait(
    world: World, copy: Container, collector: Collector
) -> None:
    async with world.db.read() as tx:
        rows = await datasets.on_server(tx, world.there.id)
    mirror = next(row for row in rows if row.role is Role.MIRROR)
    assert not await collector.is_urgent()
    job = await world.claim(await world.begin_sync(copy))
    async with world.db.write() as tx:
        await datasets.change(tx, mirror.id, trimmed=False, job_id=job.id)
    assert not await collector.is_urgent()
    await world.end(job, Move.FAIL)
    assert await collector.is_urgent()


async def test_what_is_tied_makes_no_haste_until_another_job_has_left_it(
    world: World, copy: Container
) -> None:
    job = await world.claim(await world.begin_sync(copy))
    row = await leave(world, world.there, job.id)
    await world.end(job, Move.FAIL)
    tied: Any = Untied.of(world.there.storage, row.path)
    collector = world.collector(world.there, GRACE, tied)
    assert await collector.is_urgent()
    assert await collector.run(now()) == []
    assert not await collector.is_urgent()  # each look would find the same
    again = await world.claim(await world.begin_sync(copy))
    async with world.db.write() as tx:
        await datasets.change(tx, row.id, job_id=again.id)
    await world.end(again, Move.FAIL)
    assert await collector.is_urgent()
    tied.path = ""
    assert row.path in [deed.path for deed in await collector.run(now())]


class Untied(Tied):
    """One whose dataset cannot be destroyed, until it can."""

    async def destroy(self, path: str) -> None:
        if path == self.path:
            raise self.why
        await super().destroy(path)

    async def destroy_snapshot(self, path: str, guid: Any, unless: Any = None) -> None:
        if path == self.path:
            raise self.why
        await super().destroy_snapshot(path, guid, unless)


async def test_a_round_that_fails_has_met_nothing(world: World, copy: Container) -> None:
    job = await world.claim(await world.begin_sync(copy))
    await leave(world, world.there, job.id)
    await world.end(job, Move.FAIL)
    collector = world.collector(world.there, GRACE, Failing.of(world.there.storage, ""))
    with pytest.raises(type(Failing.why)):
        await collector.run(now())
    assert await collector.is_urgent()


class Failing(Tied):
    """One that cannot be looked at."""

    async def forest(self) -> Any:
        raise self.why
