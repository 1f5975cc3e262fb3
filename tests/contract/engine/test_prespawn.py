"""Images that are to be on every server: they come by themselves, stay, and go when they need be
there no longer."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from daemon.actions.prespawn import PAUSE, PAUSE_MAX, _is_time
from daemon.model import Job, JobState, JobType, now
from daemon.states import Move
from daemon.store import jobs
from daemon.store.database import Database
from tests.contract.engine.depot import Depot
from tests.engine_world import Place, World
from tests.mortal import Fuse, attempt, clean

KILLS_MAX = 100
MOMENT = timedelta(milliseconds=1)


@pytest.fixture
async def world(db: Database, url: str, tmp_path: Path) -> World:
    """Three servers."""
    made = World(db, url, tmp_path)
    await made.fill(("here", "there", "third"))
    return made


@pytest.fixture
async def depot(world: World) -> Depot:
    return await Depot.of(world, prespawn=True)


async def the_job(depot: Depot, place: Place) -> Job:
    (job,) = await depot.queue_missing(place)
    return job


async def test_it_comes_to_every_other_server_and_stays(world: World, depot: Depot) -> None:
    assert await depot.queue_missing(world.here) == []
    for place in world.places[1:]:
        job = await the_job(depot, place)
        result = await world.carry_out(job)
        assert result is not None
        assert result["strategy"] == "full"
        assert await depot.queue_missing(place) == []
        await world.settle(place)
        assert await depot.holder(place) is not None
        assert await depot.queue_missing(place) == []
    _, result = await depot.create(world.there)
    assert result["strategy"] == "clone"
    await clean(world)


async def test_servers_bring_it_at_once(world: World, depot: Depot) -> None:
    """A job of one is none of the other's way; a second one of the same there is none."""
    queued = [await the_job(depot, place) for place in world.places[1:]]
    assert [await depot.queue_missing(place) for place in world.places[1:]] == [[], []]
    async with world.db.write() as tx:
        at = now()
        claims = [await jobs.claim(tx, place.id, at, at + PAUSE) for place in world.places[1:]]
    assert [job.id for job in claims if job is not None] == [job.id for job in queued]
    assert [await depot.queue_missing(place) for place in world.places[1:]] == [[], []]


async def test_it_is_none_but_the_servers_own(world: World, depot: Depot) -> None:
    """No user sees it among their jobs, nor has fewer for it."""
    job = await the_job(depot, world.there)
    assert (job.container_id, job.user_id) == (depot.image.id, world.there.id)


async def test_it_goes_when_it_need_be_there_no_longer(world: World, depot: Depot) -> None:
    for place in world.places[1:]:
        await world.carry_out(await the_job(depot, place))
    kept, _ = await depot.create(world.there)
    await depot.change(prespawn=False)
    for place in world.places:
        await world.settle(place)
    assert [await depot.holder(place) is not None for place in world.places] == [True, True, False]
    await depot.change(prespawn=True)
    await world.carry_out(await the_job(depot, world.places[2]))
    await depot.change(prespawn=False)
    await world.remove(kept)
    for place in world.places:
        await world.settle(place)
    assert [await depot.holder(place) is not None for place in world.places] == [True, False, False]
    assert await world.paths(world.there) == []


async def test_what_was_lost_comes_again(world: World, depot: Depot) -> None:
    await world.carry_out(await the_job(depot, world.there))
    (mirror,) = await depot.mirrors(world.there)
    await world.there.storage.destroy_snapshot(mirror, depot.guid)
    await world.carry_out(await the_job(depot, world.there))
    assert await depot.holder(world.there) is not None


@pytest.mark.parametrize("move", [Move.FAIL, Move.CANCEL])
async def test_after_a_failure_there_is_a_pause(world: World, depot: Depot, move: Move) -> None:
    claimed = await world.claim(await the_job(depot, world.there))
    ended = await world.end(claimed, move)
    assert ended.finished_at is not None
    over = ended.finished_at + PAUSE
    assert await depot.queue_missing(world.there, over - MOMENT) == []
    await the_job(depot, world.places[2])
    assert len(await depot.queue_missing(world.there, over)) == 1


@pytest.mark.parametrize(
    ("failures", "pause"), [(1, PAUSE), (2, 2 * PAUSE), (3, 4 * PAUSE), (60, PAUSE_MAX)]
)
def test_pauses_grow_with_each_failure(failures: int, pause: timedelta) -> None:
    ended = Job("j", JobType.PRESPAWN, JobState.FAILED, "i", "s", "s", finished_at=now())
    earlier = [ended] * failures
    assert ended.finished_at is not None
    for before in ([], [replace(ended, state=JobState.SUCCEEDED), ended, ended]):
        assert not _is_time(earlier + before, ended.finished_at + pause - MOMENT)
        assert _is_time(earlier + before, ended.finished_at + pause)
        assert _is_time(before, ended.finished_at)


async def test_it_is_killed_at_any_call(world: World) -> None:
    for number in range(1, KILLS_MAX):
        depot = await Depot.of(world, prespawn=True)
        job = await the_job(depot, world.there)
        fuse = Fuse(number)
        if not await attempt(world, job, fuse):
            assert await attempt(world, job, fuse)
        assert await depot.holder(world.there) is not None
        assert await depot.queue_missing(world.there) == []
        await depot.remove()
        if not fuse.blown:
            break
    else:
        pytest.fail("an attempt has more calls than expected")
    assert number > 5
    await clean(world)
    assert await world.paths(world.there) == []
