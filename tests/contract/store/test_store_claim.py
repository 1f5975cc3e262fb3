"""Who is claimed, in which order, and never twice, however many ask at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from postgres import Postgres
from sqlalchemy import text

from daemon.errors import CatalogueError, Conflict, JobError, LeaseLost
from daemon.model import SHORT, Job, JobState, JobType, Status, new_id
from daemon.states import Move
from daemon.store import containers, database, events, jobs
from daemon.store.database import Database
from tests.contract.store.catalogue import T0, Catalogue, after

CLAIMANTS = 8


async def claimed(catalogue: Catalogue, seconds: float = 0) -> str | None:
    """The id of the job that is claimed at a time; None for none."""
    job = await catalogue.claim(after(seconds))
    return job.id if job else None


# --- order ---------------------------------------------------------------------------------------


async def test_jobs_are_claimed_oldest_first_and_on_their_own_server(catalogue: Catalogue) -> None:
    first = await catalogue.add_job(created_at=after(9))
    second = await catalogue.add_job(created_at=after(1))
    await catalogue.add_job(server_id=catalogue.there.id)
    assert [await claimed(catalogue) for _ in range(3)] == [first.id, second.id, None]


async def test_a_retry_waits_for_its_time(catalogue: Catalogue) -> None:
    job = await catalogue.running_job()
    await catalogue.move(job, Move.REQUEUE, not_before=after(2))
    assert await claimed(catalogue, 1.999) is None
    assert await claimed(catalogue, 2) == job.id


async def test_a_retry_that_is_to_be_cancelled_is_not_begun(catalogue: Catalogue) -> None:
    job = await catalogue.running_job()
    await catalogue.move(job, Move.REQUEUE)
    await catalogue.write(jobs.request_cancel, job.id)
    assert await claimed(catalogue) is None


@pytest.mark.parametrize("then", [Move.SUCCEED, Move.FAIL, Move.CANCEL])
async def test_a_delete_runs_after_the_job_of_its_container(
    catalogue: Catalogue, then: Move
) -> None:
    first = await catalogue.running_job()
    last = await catalogue.add_job(JobType.DELETE, first.container_id)
    assert await claimed(catalogue) is None
    queued = await catalogue.move(first, Move.REQUEUE, not_before=after(5))
    assert await claimed(catalogue) is None
    again = await catalogue.claim(after(5))
    assert again is not None
    assert again.id == queued.id
    await catalogue.move(again, then)
    assert await claimed(catalogue) == last.id


async def test_a_delete_waits_for_those_who_read_the_container(catalogue: Catalogue) -> None:
    source = new_id()
    running = await catalogue.running_job(source_container_id=source)
    queued = await catalogue.add_job(server_id=catalogue.there.id, source_container_id=source)
    last = await catalogue.add_job(JobType.DELETE, source)
    late = await catalogue.add_job(source_container_id=source)
    other = await catalogue.add_job()
    assert [await claimed(catalogue) for _ in range(3)] == [late.id, other.id, None]
    await catalogue.move(running, Move.SUCCEED)
    assert await claimed(catalogue) is None
    await catalogue.move(queued, Move.CANCEL)
    assert await claimed(catalogue) == last.id


async def test_a_delete_does_not_wait_for_what_changes_its_list(catalogue: Catalogue) -> None:
    """It waits for those who read the container, and for nobody beside it."""
    container_id = new_id()
    beside = await catalogue.add_job(JobType.EXPIRE, container_id)
    delete = await catalogue.add_job(JobType.DELETE, container_id)
    late = await catalogue.add_job(JobType.SNAPSHOT_DELETE, container_id)
    assert [await claimed(catalogue) for _ in range(4)] == [beside.id, delete.id, late.id, None]


async def test_only_jobs_of_the_types_that_may_begin_are_claimed(catalogue: Catalogue) -> None:
    made = [
        await catalogue.add_job(type)
        for type in (JobType.COPY, JobType.EXPIRE, JobType.SYNC, JobType.SNAPSHOT, JobType.DELETE)
    ]

    async def claimed_of(*types: JobType) -> str | None:
        job = await catalogue.write(jobs.claim, catalogue.here.id, T0, after(30), types)
        return job.id if job else None

    assert await claimed_of() is None
    assert await claimed_of(JobType.RESTORE) is None
    assert await claimed_of(*SHORT) == made[1].id
    assert await claimed_of(JobType.SYNC, JobType.SNAPSHOT) == made[2].id
    assert [await claimed_of(*SHORT) for _ in range(3)] == [made[3].id, made[4].id, None]
    assert [await claimed_of(*JobType) for _ in range(2)] == [made[0].id, None]


async def test_a_type_that_may_begin_overtakes_nothing_of_its_own_container(
    catalogue: Catalogue,
) -> None:
    sync = await catalogue.add_job()
    delete = await catalogue.add_job(JobType.DELETE, sync.container_id)
    short = await catalogue.write(jobs.claim, catalogue.here.id, T0, after(30), SHORT)
    assert short is None
    assert [await claimed(catalogue) for _ in range(2)] == [sync.id, None]
    await catalogue.move((await catalogue.read(jobs.running_on, catalogue.here.id))[0], Move.FAIL)
    assert await claimed(catalogue) == delete.id


# --- races ---------------------------------------------------------------------------------------


async def test_eight_claimants_get_each_job_once(catalogue: Catalogue) -> None:
    made = [await catalogue.add_job() for _ in range(24)]
    taken: list[Job] = []

    async def claim_all() -> None:
        while (job := await catalogue.claim()) is not None:
            taken.append(job)

    await asyncio.gather(*(claim_all() for _ in range(CLAIMANTS)))
    assert sorted(job.id for job in taken) == sorted(job.id for job in made)
    assert {(job.attempt, job.state) for job in taken} == {(1, JobState.RUNNING)}


@pytest.fixture
async def postgres_claimants(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Catalogue, Catalogue]]:
    """Two programs on one PostgreSQL, as they would be if writers took no turns."""
    monkeypatch.setattr(database, "_begin_postgresql", lambda _connection: None)
    postgres.create("claimants", "template")
    programs = [Database(postgres.url("claimants")) for _ in range(2)]
    first, second = Catalogue(programs[0]), Catalogue(programs[1])
    await first.fill()
    second.here = first.here
    yield first, second
    for db in programs:
        await db.close()
    postgres.drop("claimants")


@pytest.mark.postgres
async def test_two_programs_never_claim_the_same_job(
    postgres_claimants: tuple[Catalogue, Catalogue],
) -> None:
    """Neither when one claims while the other has not committed yet: it gets the next job, and
    waits for nobody."""
    first, second = postgres_claimants
    made = [await first.add_job() for _ in range(12)]
    async with first.db.write() as tx:
        mine = await jobs.claim(tx, first.here.id, T0, after(30))
        theirs = await asyncio.wait_for(second.claim(), 30)
    assert [job and job.id for job in (mine, theirs)] == [made[0].id, made[1].id]
    taken: list[str] = []

    async def claim_all(program: Catalogue) -> None:
        while (job := await program.claim()) is not None:
            taken.append(job.id)

    await asyncio.gather(*(claim_all(program) for program in (first, second) * 2))
    assert sorted(taken) == sorted(job.id for job in made[2:])


@pytest.mark.postgres
async def test_a_job_that_an_operator_holds_is_passed_over(
    postgres_claimants: tuple[Catalogue, Catalogue],
) -> None:
    """But nothing of its own container overtakes it."""
    catalogue, operator = postgres_claimants
    held, other = await catalogue.add_job(), await catalogue.add_job()
    await catalogue.add_job(JobType.DELETE, held.container_id)
    async with operator.db.write() as tx:
        lock = text("SELECT 1 FROM jobs WHERE id = :id FOR UPDATE")
        await tx.execute(lock, {"id": held.id})
        found = [await asyncio.wait_for(claimed(catalogue), 30) for _ in range(2)]
    assert [*found, await claimed(catalogue)] == [other.id, None, held.id]


async def test_a_container_never_has_two_running_jobs(catalogue: Catalogue) -> None:
    """Claimants run pairs of a sync and its container's delete; ends make room for the next."""
    pairs = [new_id() for _ in range(8)]
    for container_id in pairs:
        await catalogue.add_job(JobType.SYNC, container_id)
        await catalogue.add_job(JobType.DELETE, container_id)
    busy: set[str] = set()
    order: list[tuple[str, JobType]] = []

    async def work() -> None:
        while len(order) < 2 * len(pairs):
            job = await catalogue.claim()
            if job is None:
                await asyncio.sleep(0)
                continue
            assert job.container_id not in busy
            busy.add(job.container_id)
            order.append((job.container_id, job.type))
            await asyncio.sleep(0)
            busy.remove(job.container_id)
            await catalogue.move(job, Move.SUCCEED)

    await asyncio.gather(*(work() for _ in range(CLAIMANTS)))
    for container_id in pairs:
        ran = [type for container, type in order if container == container_id]
        assert ran == [JobType.SYNC, JobType.DELETE]


async def test_the_switch_and_the_cancel_never_both_win(catalogue: Catalogue) -> None:
    async def switch(job: Job) -> bool:
        try:
            await catalogue.write(jobs.save, job, step="switch")
        except JobError:
            return False
        return True

    async def cancel(job: Job) -> bool:
        return await catalogue.write(jobs.request_cancel, job.id) is not None

    for turn in range(8):
        job = await catalogue.running_job()
        both = [switch(job), cancel(job)]
        won = await asyncio.gather(*(both if turn % 2 else reversed(both)))
        assert sorted(won) == [False, True]


async def test_one_of_two_who_move_a_job_wins(catalogue: Catalogue) -> None:
    job = await catalogue.running_job()
    ends = await asyncio.gather(
        catalogue.move(job, Move.SUCCEED),
        catalogue.move(job, Move.FAIL),
        return_exceptions=True,
    )
    assert sorted(type(end) for end in ends if isinstance(end, LeaseLost)) == [LeaseLost]
    ended = [e for e in await catalogue.read(events.since, 0, 9) if e.data["state"] != "queued"]
    assert len(ended) == 2


async def test_one_of_eight_gets_the_job_of_a_container(catalogue: Catalogue) -> None:
    container_id = new_id()
    asked = await asyncio.gather(
        *(catalogue.add_job(container_id=container_id) for _ in range(CLAIMANTS)),
        return_exceptions=True,
    )
    assert sum(isinstance(answer, Job) for answer in asked) == 1
    assert sum(isinstance(answer, Conflict) for answer in asked) == CLAIMANTS - 1


async def test_a_limit_that_was_counted_holds_until_the_commit(catalogue: Catalogue) -> None:
    places = 3

    async def copy(number: int) -> bool:
        async with catalogue.db.write() as tx:
            if await containers.live_on(tx, catalogue.here.id) >= places:
                return False
            await containers.insert(tx, catalogue.container(f"c{number}", status=Status.COPYING))
            return True

    assert sum(await asyncio.gather(*(copy(number) for number in range(CLAIMANTS)))) == places


async def test_sequences_and_events_are_in_the_order_of_the_commits(catalogue: Catalogue) -> None:
    """Whoever follows the events by their ids misses none."""
    followed: list[int] = []
    jobs_made = 32

    async def follow() -> None:
        while len(followed) < jobs_made:
            last = followed[-1] if followed else 0
            followed.extend(e.id for e in await catalogue.read(events.since, last, 5))

    async def make() -> None:
        for _ in range(jobs_made // CLAIMANTS):
            await catalogue.add_job()

    await asyncio.wait_for(asyncio.gather(follow(), *(make() for _ in range(CLAIMANTS))), 60)
    assert followed == [e.id for e in await catalogue.read(events.since, 0, 99)]
    every = await catalogue.read(jobs.active)
    assert [job.sequence for job in every] == list(range(1, jobs_made + 1))


async def test_a_database_that_says_running_twice_is_refused(catalogue: Catalogue) -> None:
    """The index stands behind the claim's own rule."""
    first = await catalogue.running_job()
    second = await catalogue.add_job(JobType.DELETE, first.container_id)
    with pytest.raises(CatalogueError):
        await catalogue.move(second, Move.CLAIM)


async def test_a_lease_is_as_long_as_was_asked(catalogue: Catalogue) -> None:
    job = await catalogue.running_job()
    assert job.lease_until == T0 + timedelta(seconds=30)
