"""The engine: claims, has workers run, settles. Its workers are processes that are told what to
answer; everything else is real."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from sqlalchemy import update

from daemon import engine
from daemon.errors import CatalogueError
from daemon.model import SHORT, JobState, JobType, Status, now
from daemon.retry import Policy
from daemon.states import Move
from daemon.store import jobs
from daemon.store.database import Database, Tx
from daemon.store.schema import jobs as job_table
from tests.contract.engine.stand_in import DONE, failure, until
from tests.contract.engine.works import Works

NEVER_SECONDS = 1e6


async def test_a_job_runs_and_its_result_is_written_down(works: Works) -> None:
    job = await works.job(DONE)
    async with works.running():
        ended = await works.ended(job)
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 1)
    assert ended.result == {"strategy": "clone"}
    assert ended.finished_at is not None
    assert ended.lease_until is None
    assert [one.id for one in works.settled] == [job.id]
    assert works.abandoned == []
    assert await works.story(job) == ["queued", "running", "succeeded"]


@pytest.mark.parametrize("told", [True, False], ids=["told", "polled"])
async def test_a_later_job(works: Works, told: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to look by the clock while all news are told."""
    monkeypatch.setattr(engine, "RARE_POLL_SECONDS", NEVER_SECONDS)
    monkeypatch.setattr(engine, "POLL_SECONDS", NEVER_SECONDS if told else 0.01)
    works.news.complete = told
    first = await works.job(DONE)
    async with works.running():
        await works.ended(first)
        second = await works.job(DONE)
        if told:
            works.news.tell()
        assert (await works.ended(second)).state is JobState.SUCCEEDED


async def test_more_jobs_than_workers_are_done_one_after_the_other(works: Works) -> None:
    made = [await works.job(DONE) for _ in range(7)]
    async with works.running():
        for job in made:
            assert (await works.ended(job)).state is JobState.SUCCEEDED
    assert len(works.stand_in.pids) <= 2


@pytest.mark.parametrize("type", sorted(SHORT))
async def test_a_short_job_never_waits_behind_transfers(works: Works, type: JobType) -> None:
    transfers = [await works.job("hang") for _ in range(3)]
    short = [await works.job(DONE, type=type) for _ in range(2)]
    async with works.running():
        for job in short:
            assert (await works.ended(job)).state is JobState.SUCCEEDED
        states = [(await works.world.job(job.id)).state for job in transfers]
    assert states == [JobState.RUNNING, JobState.RUNNING, JobState.QUEUED]


async def test_a_retryable_error_is_tried_again_later(works: Works) -> None:
    job = await works.job(failure("PEER_UNREACHABLE", retryable=True), DONE)
    async with works.running():
        ended = await works.ended(job)
    assert (ended.state, ended.attempt, ended.error) == (JobState.SUCCEEDED, 2, None)
    assert works.abandoned == []
    assert await works.story(job) == ["queued", "running", "queued", "running", "succeeded"]


async def test_between_attempts_a_job_shows_its_error_and_when_it_goes_on(works: Works) -> None:
    job = await works.job(failure("PEER_UNREACHABLE", retryable=True))
    engine = works.engine(policy=Policy(2, 600))
    claimed = await works.world.claim(job)
    before = now()
    moved = await engine._write_down(claimed, {"error": _error("PEER_UNREACHABLE", True)})
    assert moved is not None
    assert moved.state is JobState.QUEUED
    assert moved.error is not None
    assert moved.error["code"] == "PEER_UNREACHABLE"
    assert moved.not_before is not None
    assert before <= moved.not_before <= now() + timedelta(seconds=2)


async def test_the_last_attempt_fails_and_abandons_the_container(works: Works) -> None:
    job = await works.job(failure("PEER_UNREACHABLE", retryable=True))
    async with works.running(works.engine(policy=Policy(2, 600))):
        ended = await works.ended(job)
    assert (ended.state, ended.attempt) == (JobState.FAILED, 2)
    container = await works.world.get(job.container_id)
    assert container.status_reason == "PEER_UNREACHABLE: it failed"
    assert works.abandoned == [(job.id, "PEER_UNREACHABLE: it failed")]


async def test_an_error_that_is_for_good_is_not_tried_again(works: Works) -> None:
    job = await works.job(failure("PEER_REFUSED", retryable=False), DONE)
    async with works.running():
        ended = await works.ended(job)
    assert (ended.state, ended.attempt) == (JobState.FAILED, 1)
    assert ended.error is not None
    assert ended.error["code"] == "PEER_REFUSED"


async def test_the_end_and_what_becomes_of_the_container_are_one_transaction(
    works: Works,
) -> None:
    """A commit that fails leaves both as they were, and both are done by the next one."""
    job = await works.job(failure("PEER_REFUSED", retryable=False))
    works.faults = 1
    claimed = await works.world.claim(job)
    with pytest.raises(CatalogueError):
        await works.engine()._write_down(claimed, {"error": _error("PEER_REFUSED", False)})
    assert (await works.world.get(job.container_id)).status is Status.COPYING
    assert (await works.world.job(job.id)).state is JobState.RUNNING
    works.faults = 1
    await works.engine()._settle(claimed, {"error": _error("PEER_REFUSED", False)})
    assert (await works.world.get(job.container_id)).status is Status.ERROR
    assert (await works.world.job(job.id)).state is JobState.FAILED
    assert len(works.abandoned) == 3


@pytest.mark.parametrize("answer", ["die", "no json"])
async def test_a_lost_worker_costs_an_attempt(works: Works, answer: str) -> None:
    job = await works.job(answer, DONE)
    async with works.running():
        ended = await works.ended(job)
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 2)


async def test_workers_that_die_again_and_again_fail_the_job(works: Works) -> None:
    job = await works.job("die")
    async with works.running(works.engine(policy=Policy(2, 600))):
        ended = await works.ended(job)
    assert ended.error is not None
    assert (ended.state, ended.error["code"]) == (JobState.FAILED, "WORKER_LOST")


async def test_a_queued_job_is_cancelled_without_a_worker(works: Works) -> None:
    job = await works.job(DONE)
    await works.cancel(job)
    async with works.running():
        ended = await works.ended(job)
    assert ended.error is not None
    assert (ended.state, ended.error["code"]) == (JobState.CANCELLED, "CANCELLED")
    assert works.stand_in.pids == []
    assert works.abandoned == [(job.id, "CANCELLED: the job was cancelled")]


async def test_a_queued_job_is_cancelled_while_all_workers_are_busy(works: Works) -> None:
    works.pool = works.stand_in.pool(1)
    busy, waiting = await works.job("hang"), await works.job(DONE)
    async with works.running():
        await works.begun(busy)
        await works.cancel(waiting)
        ended = await works.ended(waiting)
        assert (await works.world.job(busy.id)).state is JobState.RUNNING
    assert (ended.state, ended.attempt) == (JobState.CANCELLED, 0)


async def test_a_worker_that_cannot_be_started_costs_an_attempt(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await works.job(DONE)
    monkeypatch.setattr("daemon.children.PROGRAM", ("/no/such/python",))
    async with works.running(works.engine(policy=Policy(2, 600))):
        ended = await works.ended(job)
    assert ended.error is not None
    assert (ended.state, ended.error["code"]) == (JobState.FAILED, "WORKER_LOST")


async def test_a_running_job_is_cancelled_by_the_death_of_its_worker(works: Works) -> None:
    job = await works.job("hang")
    async with works.running():
        await works.begun(job)
        await works.cancel(job)
        ended = await works.ended(job)
        assert works.stand_in.alive == []
    assert (ended.state, ended.attempt) == (JobState.CANCELLED, 1)
    assert works.abandoned == [(job.id, "CANCELLED: the job was cancelled")]


async def test_a_cancel_that_meets_a_success_is_too_late(works: Works) -> None:
    job = await works.job()
    claimed = await works.world.claim(job)
    await works.cancel(job)
    moved = await works.engine()._write_down(claimed, {"result": None})
    assert moved is not None
    assert moved.state is JobState.SUCCEEDED


@pytest.mark.parametrize("end", [Move.FAIL, Move.REQUEUE])
@pytest.mark.parametrize("answer", [{"result": None}, {"error": None}, {"lost": True}])
async def test_an_attempt_that_somebody_else_ended_is_left_alone(
    works: Works, end: Move, answer: dict[str, object]
) -> None:
    """Another server failed the job (this one seemed lost), or has queued it again."""
    job = await works.job()
    claimed = await works.world.claim(job)
    async with works.world.db.write() as tx:
        moved = await jobs.move(tx, claimed, end, at=now())
    if "error" in answer:
        answer = {"error": _error("PEER_UNREACHABLE", True)}
    await works.engine()._settle(claimed, answer)
    assert await works.world.job(job.id) == moved
    assert works.settled == []
    assert works.abandoned == []


async def test_a_job_that_was_taken_away_loses_its_worker(works: Works) -> None:
    job = await works.job("hang")
    async with works.running():
        running = await works.begun(job)
        async with works.world.db.write() as tx:
            await jobs.move(tx, running, Move.FAIL, at=now())
        await until(lambda: works.stand_in.alive == [])
        await until(lambda: works.pool.open_to == frozenset(JobType))
    assert (await works.world.job(job.id)).state is JobState.FAILED
    assert works.settled == []


async def test_leases_are_renewed_while_a_job_runs(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "LEASE_SECONDS", 1.0)
    job = await works.job("hang")
    async with works.running():
        first = (await works.begun(job)).lease_until
        assert first is not None
        while (await works.world.job(job.id)).lease_until == first:
            await asyncio.sleep(0.01)


async def test_a_stop_queues_running_jobs_again(works: Works) -> None:
    job = await works.job("hang", DONE)
    async with works.running():
        await works.begun(job)
    stopped = await works.world.job(job.id)
    assert (stopped.state, stopped.attempt, stopped.error) == (JobState.QUEUED, 1, None)
    assert works.abandoned == []
    async with works.running():
        ended = await works.ended(job)
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 2)


async def test_a_start_takes_up_what_the_last_daemon_left_running(works: Works) -> None:
    left, elsewhere = await works.job(DONE), await works.job(DONE, server_id=works.world.there.id)
    await works.world.claim(left)
    await works.world.claim(elsewhere)
    async with works.running():
        ended = await works.ended(left)
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 2)
    assert (await works.world.job(elsewhere.id)).state is JobState.RUNNING


class Leaving(Database):
    """A catalogue that is gone now and then: no other fault does that to a SQLite file."""

    gone = False
    refused = 0
    turns = 0

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Tx]:
        self.turns += 1
        if self.gone:
            self.refused += 1
            raise CatalogueError("gone")
        async with super().write() as tx:
            yield tx


@pytest.fixture
async def leaving(url: str) -> AsyncIterator[Leaving]:
    database = Leaving(url)
    yield database
    await database.close()


async def test_transfers_that_find_no_worker_take_no_writers_turn(
    works: Works, leaving: Leaving
) -> None:
    """Every round would otherwise keep the catalogue's writers waiting, for hours."""
    works.pool = works.stand_in.pool(1)
    busy, waiting = await works.job("hang"), await works.job(DONE)
    async with works.running(works.engine(leaving)) as engine:
        await works.begun(busy)
        leaving.turns = 0
        await engine._round()
        assert leaving.turns == 0
        assert (await works.world.job(waiting.id)).state is JobState.QUEUED


async def test_a_catalogue_that_is_gone_for_a_moment_costs_nothing(
    works: Works, leaving: Leaving
) -> None:
    job, later = await works.job("hang"), await works.job(DONE)
    async with works.running(works.engine(leaving)):
        await works.begun(job)
        assert (await works.ended(later)).state is JobState.SUCCEEDED
        leaving.gone = True
        works.stand_in.say(job.id, DONE)
        await works.pool.kill(job.id)  # its end has to wait for the catalogue
        await until(lambda: leaving.refused > 2)
        assert (await works.world.job(job.id)).state is JobState.RUNNING
        leaving.gone = False
        ended = await works.ended(job)
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 2)


class Mute(Database):
    """A catalogue that commits, but whose answer to the next write is lost."""

    mute = False

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Tx]:
        async with super().write() as tx:
            yield tx
        if self.mute:
            self.mute = False
            raise CatalogueError("the answer is lost")


async def test_a_claim_whose_answer_is_lost_is_made_again(
    works: Works, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody carries the first one out: when its lease is over, the job is queued again."""
    monkeypatch.setattr(engine, "LEASE_SECONDS", 1.0)
    mute = Mute(url)
    async with works.running(works.engine(mute)):
        await works.ended(await works.job(DONE))
        mute.mute = True
        ended = await works.ended(await works.job(DONE))
    await mute.close()
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 2)


class Refusing(Database):
    """A catalogue that is gone when it is asked for the first time."""

    asked = 0

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Tx]:
        self.asked += 1
        if self.asked == 1:
            raise CatalogueError("gone")
        async with super().read() as tx:
            yield tx


async def test_a_start_without_a_catalogue_waits_for_it(works: Works, url: str) -> None:
    left, refusing = await works.job(DONE), Refusing(url)
    await works.world.claim(left)
    async with works.running(works.engine(refusing)):
        ended = await works.ended(left)
    await refusing.close()
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 2)


async def test_a_stop_leaves_the_attempts_of_another_daemon(works: Works) -> None:
    """One that runs as this server by now; this one stops for that very reason."""
    job = await works.job("hang")
    async with works.running():
        begun = await works.begun(job)
        async with works.world.db.write() as tx:
            await tx.execute(update(job_table).values(attempt=begun.attempt + 1))
    found = await works.world.job(job.id)
    assert (found.state, found.attempt) == (JobState.RUNNING, begun.attempt + 1)


async def test_a_stop_without_a_catalogue_leaves_its_jobs_to_the_next_start(
    works: Works, leaving: Leaving
) -> None:
    job = await works.job("hang", DONE)
    async with works.running(works.engine(leaving)):
        await works.begun(job)
        leaving.gone = True
    assert (await works.world.job(job.id)).state is JobState.RUNNING
    async with works.running():
        assert (await works.ended(job)).state is JobState.SUCCEEDED


def _error(code: str, retryable: bool) -> dict[str, object]:
    return {"code": code, "message": "it failed", "retryable": retryable, "evidence": {}}
