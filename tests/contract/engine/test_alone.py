"""One daemon a server, none beside the children of a dead one, and who fails a lost server's
jobs."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from daemon import locks, sweep
from daemon.actions import ACTIONS
from daemon.condition import Condition
from daemon.engine import CANCELLED
from daemon.errors import CatalogueError, StartError, StartLater
from daemon.model import Job, JobState, JobType, Status, new_id, now
from daemon.states import Move
from daemon.store import containers, events, jobs, servers
from daemon.store.database import Tx
from daemon.store.sole import sole
from tests.engine_world import World
from tests.postgres import serving
from transfer.model import Capacity

ROOT = Path(__file__).parents[3]
ABANDON = {type: action.abandon for type, action in ACTIONS.items()}
SILENT = timedelta(minutes=10)
HANG_SECONDS = 90


async def holder(code: str, *arguments: str) -> asyncio.subprocess.Process:
    """Another process that runs the code, and has said that it is ready."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, *arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    return process


async def end(process: asyncio.subprocess.Process) -> None:
    process.kill()
    await process.communicate()


# --- locks ---------------------------------------------------------------------------------------


def test_one_daemon_at_a_time_has_the_state_directory(tmp_path: Path) -> None:
    first = locks.take_daemon_lock(str(tmp_path))
    with pytest.raises(StartLater, match=r"server\.state_dir: another daemon"):
        locks.take_daemon_lock(str(tmp_path))
    os.close(first)
    os.close(locks.take_daemon_lock(str(tmp_path)))


async def test_the_daemons_lock_dies_with_it(tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "from daemon import locks\n"
        "locks.take_daemon_lock(sys.argv[1])\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)\n"
    )
    other = await holder(code, str(tmp_path))
    with pytest.raises(StartLater):
        locks.take_daemon_lock(str(tmp_path))
    await end(other)
    os.close(locks.take_daemon_lock(str(tmp_path)))


async def test_a_start_waits_for_the_children_of_a_dead_daemon(tmp_path: Path) -> None:
    await locks.wait_for_children(str(tmp_path))
    children = [locks.share_children_lock(str(tmp_path)) for _ in range(2)]
    waiting = asyncio.create_task(locks.wait_for_children(str(tmp_path)))
    for child in children:
        await asyncio.sleep(0)
        assert not waiting.done()
        os.close(child)
    await waiting


async def test_a_child_that_hangs_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "WORKERS_GONE_SECONDS", 0.1)
    child = locks.share_children_lock(str(tmp_path))
    with pytest.raises(StartLater, match="does not end"):
        await locks.wait_for_children(str(tmp_path))
    os.close(child)


def test_a_state_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="run: hoodyd init"):
        locks.take_daemon_lock(str(tmp_path / "nowhere"))


# --- one server id -------------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def address(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/catalogue.db"
        return
    with serving() as server:
        server.create("catalogue")
        yield server.url("catalogue")


async def test_a_server_id_runs_once(address: str) -> None:
    ours, other = new_id(), new_id()
    async with sole(address, ours):
        with pytest.raises(StartLater, match=f"another daemon runs as server {ours}"):
            async with sole(address, ours):
                pytest.fail("two of them run")
        async with sole(address, other):
            pass
    async with sole(address, ours):
        pass


async def test_a_server_id_is_free_when_its_daemon_was_killed(address: str) -> None:
    code = (
        "import asyncio, sys\n"
        "from daemon.store.sole import sole\n"
        "async def main():\n"
        "    async with sole(sys.argv[1], sys.argv[2]):\n"
        "        print('ready', flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    ours = new_id()
    other = await holder(code, address, ours)
    with pytest.raises(StartLater):
        async with sole(address, ours):
            pytest.fail("two of them run")
    await end(other)
    for _ in range(1000):  # PostgreSQL notices the end of a connection when it next looks
        try:
            async with sole(address, ours):
                return
        except StartError:
            await asyncio.sleep(0.01)
    pytest.fail("the lock outlived its process")


async def test_without_a_database_nobody_starts(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="no connection"):
        async with sole(f"postgresql://hoody@/none?host={tmp_path}", new_id()):
            pytest.fail("it runs without a database")


# --- a lost server -------------------------------------------------------------------------------


async def lose(world: World, silent: timedelta) -> None:
    async with world.db.write() as tx:
        await servers.beat(tx, world.there.id, Capacity(1, 0, 1), now() - silent)


async def waiting(world: World, type: JobType, *, runs: bool) -> Job:
    made = await world.add(f"c-{new_id()}", world.there, status=Status.COPYING)
    job = await world.queue(type, made, params={"was": "stopped"})
    return await world.claim(job) if runs else job


@pytest.mark.parametrize("runs", [False, True])
@pytest.mark.parametrize("type", [t for t in JobType if t is not JobType.DELETE])
async def test_jobs_of_a_lost_server_fail(world: World, type: JobType, runs: bool) -> None:
    job = await waiting(world, type, runs=runs)
    await lose(world, SILENT - timedelta(seconds=5))
    assert [one async for one in sweep.fail_lost(world.db, SILENT, ABANDON)] == []
    assert (await world.job(job.id)).state is job.state
    await lose(world, SILENT + timedelta(seconds=1))
    for ended in ([job.id], []):  # each end is told once, to be counted
        assert [one.id async for one in sweep.fail_lost(world.db, SILENT, ABANDON)] == ended
        after = await world.job(job.id)
        assert after.error is not None
        assert (after.state, after.error["code"]) == (JobState.FAILED, "SERVER_LOST")
    if type in (JobType.COPY, JobType.SYNC):
        ends = Status.ERROR if type is JobType.COPY else Status.STOPPED
        assert (await world.get(job.container_id)).status is ends


@pytest.mark.parametrize("runs", [False, True])
async def test_a_delete_waits_for_its_server(world: World, runs: bool) -> None:
    job = await waiting(world, JobType.DELETE, runs=runs)
    await lose(world, timedelta(days=99))
    assert [one async for one in sweep.fail_lost(world.db, SILENT, ABANDON)] == []
    assert await world.job(job.id) == job


async def test_each_end_is_told_though_the_next_fails(world: World) -> None:
    """Each is a transaction by itself, and is to be counted."""
    made = [await waiting(world, JobType.SYNC, runs=True) for _ in range(2)]
    await lose(world, SILENT + timedelta(seconds=1))
    told: list[Job] = []

    async def fail_the_second(tx: Tx, job: Job, reason: str) -> None:
        if told:
            raise CatalogueError("gone")
        await ABANDON[job.type](tx, job, reason)

    abandon = dict.fromkeys(JobType, fail_the_second)
    with pytest.raises(CatalogueError):
        async for job in sweep.fail_lost(world.db, SILENT, abandon):
            told.append(job)
    (first,) = told
    states = {job.id: (await world.job(job.id)).state for job in made}
    assert states.pop(first.id) is JobState.FAILED
    assert list(states.values()) == [JobState.RUNNING]


async def test_a_job_that_moves_meanwhile_is_left_alone(world: World) -> None:
    """The server is back: what it does wins, and the container is not abandoned."""
    job = await waiting(world, JobType.COPY, runs=True)
    async with world.db.write() as tx:
        await jobs.move(tx, job, Move.SUCCEED, at=now())
    assert await sweep._end(world.db, job, Move.FAIL, CANCELLED, ABANDON) is None
    assert (await world.job(job.id)).state is JobState.SUCCEEDED
    assert (await world.get(job.container_id)).status is Status.COPYING


@pytest.mark.parametrize(
    ("type", "during", "afterwards"),
    [
        (JobType.COPY, Status.COPYING, Status.ERROR),
        (JobType.SYNC, Status.COPYING, Status.STOPPED),
        (JobType.SYNC, Status.DELETING, Status.DELETING),
        (JobType.DELETE, Status.DELETING, Status.STOPPED),
    ],
)
async def test_what_is_to_be_cancelled_waits_for_no_server(
    type: JobType, during: Status, afterwards: Status, world: World
) -> None:
    """Where it was asked for while the server had not been missed yet. What runs, or is not to
    be cancelled, is left alone, and so are those of a server that is there."""
    offline = timedelta(seconds=15)
    runs = await waiting(world, type, runs=True)
    kept = await waiting(world, type, runs=False)
    job = await waiting(world, type, runs=False)
    async with world.db.write() as tx:
        await containers.change(tx, job.container_id, status=during)
        for asked in (runs, job):
            await jobs.request_cancel(tx, asked.id)
    await lose(world, offline - timedelta(seconds=5))
    assert [one async for one in sweep.end_cancelled(world.db, offline, ABANDON)] == []
    assert (await world.job(job.id)).state is JobState.QUEUED
    await lose(world, offline + timedelta(seconds=1))
    for ended in ([job.id], []):
        assert [one.id async for one in sweep.end_cancelled(world.db, offline, ABANDON)] == ended
        after = await world.job(job.id)
        assert (after.state, after.error) == (JobState.CANCELLED, CANCELLED)
        assert (await world.get(job.container_id)).status is afterwards
    assert (await world.job(runs.id)).state is JobState.RUNNING
    assert await world.job(kept.id) == kept


async def test_jobs_are_readable_for_thirty_days_and_events_for_one(world: World) -> None:
    ages = [timedelta(days=29), timedelta(days=31)]
    made = [await waiting(world, JobType.START, runs=True) for _ in ages]
    for job, age in zip(made, ages, strict=True):
        async with world.db.write() as tx:
            await jobs.move(tx, job, Move.SUCCEED, at=now() - age)
    for _ in range(2):
        await sweep.forget_old(world.db)
        async with world.db.read() as tx:
            assert [await jobs.get(tx, job.id) is None for job in made] == [False, True]
            told = await events.since(tx, 0, 100)
        assert all(event.at > now() - events.KEPT for event in told)


# --- condition -----------------------------------------------------------------------------------


async def test_the_condition_is_what_the_children_said_last() -> None:
    condition = Condition()
    assert all(condition.health().values())
    condition.listening.add(0)
    assert condition.health()["peer_listener"] is None
    assert not condition.mounted.is_set()
    await condition.keeper_said({"mounted": True})
    assert condition.mounted.is_set()
    assert condition.health()["storage"] is not None
    room = {"total_bytes": 3, "used_bytes": 2, "available_bytes": 1}
    await condition.keeper_said({"capacity": room})
    others_know = {
        "storage": None,
        "peer_listener": None,
        "heartbeat": "no heartbeat was written yet",
    }
    assert condition.health() == others_know
    condition.announced = True
    assert not any(condition.health().values())
    assert condition.capacity is not None
    assert condition.capacity.available_bytes == 1
    await condition.keeper_said({"failure": "no disk"})
    assert condition.health()["storage"] == "no disk"
    await condition.keeper_said({"collected": 0.1})
    assert condition.health()["storage"] == "no disk"
    await condition.keeper_said({"capacity": room})
    assert condition.health()["storage"] is None


async def test_all_is_well_when_the_last_part_is() -> None:
    condition = Condition(storage_failure=None, listening={0})
    well = asyncio.create_task(condition.all_well())
    await asyncio.sleep(0)
    assert not well.done()
    condition.announced = True
    await asyncio.wait_for(well, HANG_SECONDS)


async def test_every_word_of_the_keeper_ends_its_silence() -> None:
    condition = Condition()
    condition.heard_at -= 100
    assert condition.silent_seconds() >= 100
    await condition.keeper_said({"collected": 0.1})
    assert condition.silent_seconds() < 100


def test_nobody_is_told_to_collect_while_there_is_no_keeper() -> None:
    job = Job(new_id(), JobType.STOP, JobState.SUCCEEDED, new_id(), new_id(), new_id())
    Condition().collect_after(job)
