"""A job's life: every move by the table, guarded, with its event; who may cancel and until when."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from daemon.errors import Conflict, IllegalTransition, JobError, LeaseLost
from daemon.model import BESIDE, Job, JobState, JobType, User, new_id
from daemon.states import Move
from daemon.store import accounts, events, jobs
from daemon.store.jobs import JobFilter
from tests.contract.store.catalogue import T0, Catalogue, after


async def stored(catalogue: Catalogue, job: Job) -> Job:
    found = await catalogue.read(jobs.get, job.id)
    assert found is not None
    return found


# --- made ----------------------------------------------------------------------------------------


async def test_a_job_comes_back_with_its_place_in_the_order(catalogue: Catalogue) -> None:
    first = await catalogue.add_job(params={"strategy": "auto"}, checkpoint={"a": [1, None]})
    second = await catalogue.add_job()
    assert first.sequence < second.sequence
    assert await stored(catalogue, first) == first
    assert await catalogue.read(jobs.get, new_id()) is None


async def test_a_container_has_one_job_that_has_not_ended(catalogue: Catalogue) -> None:
    first = await catalogue.running_job()
    with pytest.raises(Conflict) as caught:
        await catalogue.add_job(JobType.START, first.container_id)
    assert caught.value.rule == "job"
    await catalogue.move(first, Move.SUCCEED)
    await catalogue.add_job(JobType.START, first.container_id)


async def test_a_delete_waits_behind_the_job_of_its_container(catalogue: Catalogue) -> None:
    first = await catalogue.running_job()
    await catalogue.add_job(JobType.DELETE, first.container_id)
    with pytest.raises(Conflict):
        await catalogue.add_job(JobType.DELETE, first.container_id)
    assert await catalogue.read(jobs.active_for, first.container_id) == first


@pytest.mark.parametrize("type", sorted(BESIDE))
async def test_what_changes_a_list_waits_for_nobody_and_keeps_nobody_waiting(
    catalogue: Catalogue, type: JobType
) -> None:
    beside = [await catalogue.running_job(type=type)]
    container_id = beside[0].container_id
    assert await catalogue.read(jobs.active_for, container_id) is None
    sync = await catalogue.running_job(container_id=container_id)
    beside += [await catalogue.running_job(type=type, container_id=container_id) for _ in range(2)]
    delete = await catalogue.add_job(JobType.DELETE, container_id)
    beside.append(await catalogue.running_job(type=type, container_id=container_id))
    with pytest.raises(Conflict):
        await catalogue.add_job(JobType.START, container_id)
    assert await catalogue.read(jobs.active_for, container_id) == sync
    await catalogue.move(sync, Move.SUCCEED)
    assert await catalogue.read(jobs.active_for, container_id) == delete
    assert (await catalogue.claim()) is not None
    everything = await catalogue.read(jobs.running_on, catalogue.here.id)
    assert {job.id for job in everything} == {job.id for job in beside} | {delete.id}


async def test_a_refused_job_leaves_nothing(catalogue: Catalogue) -> None:
    first = await catalogue.add_job()
    with pytest.raises(Conflict):
        await catalogue.add_job(container_id=first.container_id)
    assert len(await catalogue.read(events.since, 0, 10)) == 1
    assert await catalogue.read(jobs.of_server_active, catalogue.here.id) == [first]


# --- lists ---------------------------------------------------------------------------------------


async def test_lists_of_jobs(catalogue: Catalogue) -> None:
    running = await catalogue.running_job(source_container_id="s" * 24)
    queued = await catalogue.add_job(source_container_id="s" * 24)
    elsewhere = await catalogue.add_job(server_id=catalogue.there.id, user_id="u" * 24)
    ended = await catalogue.add_job(source_container_id="s" * 24)
    await catalogue.move(ended, Move.CANCEL)
    assert await catalogue.read(jobs.of_server_active, catalogue.here.id) == [running, queued]
    assert await catalogue.read(jobs.active) == [running, queued, elsewhere]
    assert await catalogue.read(jobs.running_on, catalogue.here.id) == [running]
    assert await catalogue.read(jobs.running_on, catalogue.there.id) == []
    assert await catalogue.read(jobs.count_active, catalogue.user.id) == 2
    assert await catalogue.read(jobs.active_for, ended.container_id) is None
    census = await catalogue.read(jobs.census, catalogue.here.id)
    assert set(census) == {
        jobs.Group(JobType.SYNC, JobState.RUNNING, 1, T0),
        jobs.Group(JobType.SYNC, JobState.QUEUED, 1, T0),
    }


async def test_a_page_of_jobs_shows_what_the_filter_asks(catalogue: Catalogue) -> None:
    container = await catalogue.add_container()
    other = User(new_id())
    await catalogue.write(accounts.put_user, other)
    by_admin = await catalogue.add_job(
        JobType.START, container.id, user_id=other.id, created_at=after(1)
    )
    of_deleted = await catalogue.add_job(created_at=after(2))
    await catalogue.add_job(user_id=other.id, created_at=after(3))

    async def shown(**wanted: object) -> tuple[list[Job], int]:
        return await catalogue.read(jobs.page, JobFilter(**wanted), 1, 2)

    assert (await shown())[1] == 3
    assert len((await shown())[0]) == 2
    assert await shown(user_id=catalogue.user.id) == ([of_deleted, by_admin], 2)
    assert await shown(container_id=container.id) == ([by_admin], 1)
    assert await shown(type=JobType.START) == ([by_admin], 1)
    assert await shown(state=JobState.FAILED) == ([], 0)


# --- moves ---------------------------------------------------------------------------------------


async def test_each_move_is_in_the_events(catalogue: Catalogue) -> None:
    job = await catalogue.running_job()
    job = await catalogue.move(job, Move.REQUEUE, 1, not_before=after(2))
    job = await catalogue.claim(after(3))
    assert job is not None
    await catalogue.move(job, Move.SUCCEED, 4, result={"strategy": "clone"})
    seen = await catalogue.read(events.since, 0, 10)
    assert [(e.kind, e.job_id, e.container_id) for e in seen] == [
        ("job", job.id, job.container_id)
    ] * 5
    assert [(e.data["state"], e.data["attempt"], e.at) for e in seen] == [
        ("queued", 0, T0),
        ("running", 1, T0),
        ("queued", 1, after(1)),
        ("running", 2, after(3)),
        ("succeeded", 2, after(4)),
    ]
    assert await catalogue.read(events.since, seen[2].id, 1) == [seen[3]]


async def test_what_the_columns_say_after_each_move(catalogue: Catalogue) -> None:
    first = await catalogue.running_job()
    assert (first.attempt, first.started_at, first.finished_at) == (1, T0, None)
    assert first.lease_until == T0 + timedelta(seconds=30)
    queued = await catalogue.move(first, Move.REQUEUE, 1, not_before=after(2), error={"code": "X"})
    assert (queued.lease_until, queued.not_before, queued.error) == (None, after(2), {"code": "X"})
    second = await catalogue.claim(after(2))
    assert second is not None
    assert (second.attempt, second.started_at, second.not_before) == (2, T0, None)
    ended = await catalogue.move(second, Move.FAIL, 5, error={"code": "Y"})
    assert ended == await stored(catalogue, ended)
    assert (ended.state, ended.finished_at, ended.lease_until) == (JobState.FAILED, after(5), None)


async def test_a_move_without_arrow_is_refused(catalogue: Catalogue) -> None:
    job = await catalogue.add_job()
    with pytest.raises(IllegalTransition):
        await catalogue.move(job, Move.SUCCEED)
    assert await stored(catalogue, job) == job


async def test_an_old_attempt_moves_nothing(catalogue: Catalogue) -> None:
    old = await catalogue.running_job()
    await catalogue.move(old, Move.REQUEUE)
    with pytest.raises(LeaseLost):
        await catalogue.move(old, Move.SUCCEED)
    new = await catalogue.claim(after(1))
    with pytest.raises(LeaseLost):
        await catalogue.move(old, Move.FAIL)
    with pytest.raises(LeaseLost):
        await catalogue.read(jobs.still_ours, old)
    with pytest.raises(LeaseLost):
        await catalogue.write(jobs.save, old, progress={"percent": 1})
    assert new is not None
    await catalogue.read(jobs.still_ours, new)
    assert await stored(catalogue, old) == new


async def test_saving_leaves_alone_what_is_not_given(catalogue: Catalogue) -> None:
    job = await catalogue.running_job()
    await catalogue.write(jobs.save, job, step="plan", checkpoint={"generation": "g"})
    saved = await catalogue.write(jobs.save, job, progress={"percent": 41.3})
    assert saved == await stored(catalogue, job)
    assert saved == replace(
        job, step="plan", checkpoint={"generation": "g"}, progress={"percent": 41.3}
    )


# --- cancel --------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [None, "snapshot", "plan", "transfer", "verify"])
async def test_a_job_can_be_cancelled_before_its_switch(
    catalogue: Catalogue, step: str | None
) -> None:
    job = await catalogue.running_job(step=step)
    asked = await catalogue.write(jobs.request_cancel, job.id)
    assert asked == replace(job, cancel_requested=True)
    assert await catalogue.write(jobs.request_cancel, job.id) == asked
    with pytest.raises(JobError) as caught:
        await catalogue.write(jobs.save, job, step="switch")
    assert caught.value.code == "CANCELLED"
    assert (await stored(catalogue, job)).step == step
    await catalogue.write(jobs.save, job, progress={"percent": 2})


@pytest.mark.parametrize("step", ["switch", "release"])
async def test_from_the_switch_on_it_is_too_late(catalogue: Catalogue, step: str) -> None:
    job = await catalogue.running_job()
    await catalogue.write(jobs.save, job, step=step)
    assert await catalogue.write(jobs.request_cancel, job.id) is None
    assert not (await stored(catalogue, job)).cancel_requested


async def test_what_has_ended_or_never_was_cannot_be_cancelled(catalogue: Catalogue) -> None:
    job = await catalogue.running_job()
    await catalogue.move(job, Move.SUCCEED)
    assert await catalogue.write(jobs.request_cancel, job.id) is None
    assert await catalogue.write(jobs.request_cancel, new_id()) is None


# --- leases and the past -------------------------------------------------------------------------


async def test_renewing_tells_which_jobs_still_run(catalogue: Catalogue) -> None:
    kept = await catalogue.running_job()
    ended = await catalogue.running_job()
    await catalogue.move(ended, Move.SUCCEED)
    ids = [kept.id, ended.id]
    assert await catalogue.write(jobs.renew, catalogue.there.id, ids, after(60)) == set()
    assert await catalogue.write(jobs.renew, catalogue.here.id, ids, after(60)) == {kept.id}
    assert await catalogue.write(jobs.renew, catalogue.here.id, [], after(60)) == set()
    assert (await stored(catalogue, kept)).lease_until == after(60)
    assert await catalogue.read(jobs.lost, after(60)) == []
    assert [job.id for job in await catalogue.read(jobs.lost, after(60.001))] == [kept.id]


async def test_jobs_and_events_are_forgotten_by_their_age(catalogue: Catalogue) -> None:
    old = await catalogue.running_job()
    await catalogue.move(old, Move.SUCCEED, 1)
    young = await catalogue.running_job()
    await catalogue.move(young, Move.FAIL, 2)
    alive = await catalogue.add_job()
    assert await catalogue.write(jobs.purge, after(2)) == 1
    assert await catalogue.read(jobs.get, old.id) is None
    assert await catalogue.read(jobs.get, alive.id) == alive
    assert (await stored(catalogue, young)).state == JobState.FAILED
    last = (await catalogue.read(events.since, 0, 100))[-1]
    assert await catalogue.write(events.purge, after(3)) > 0
    assert await catalogue.read(events.since, 0, 100) == []
    await catalogue.add_job()
    assert [e.id > last.id for e in await catalogue.read(events.since, 0, 100)] == [True]
