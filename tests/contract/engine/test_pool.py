"""Workers and other children: real processes that answer, die, hang, or talk rubbish."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from daemon import lines
from daemon.children import Child, keep_alive
from daemon.lines import Message
from daemon.model import SHORT, Job, JobState, JobType, new_id
from daemon.pool import LOST, Pool
from tests.contract.engine.stand_in import DONE, StandIn, until

ROOT = Path(__file__).parents[3]


ALL = frozenset(JobType)


def a_job(type: JobType = JobType.SYNC) -> Job:
    return Job(new_id(), type, JobState.RUNNING, new_id(), new_id(), new_id())


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    return StandIn(tmp_path, monkeypatch)


@pytest.fixture
async def pool(stand_in: StandIn) -> AsyncIterator[Pool]:
    made = stand_in.pool(2)
    yield made
    await made.close()
    assert stand_in.alive == []


async def test_a_worker_is_kept_for_the_next_job(pool: Pool, stand_in: StandIn) -> None:
    for _ in range(3):
        job = a_job()
        stand_in.say(job.id, DONE)
        assert await pool.run(job) == json.loads(DONE)
    assert len(stand_in.pids) == 1
    assert pool.open_to == ALL


async def test_the_first_job_finds_a_warm_worker(pool: Pool, stand_in: StandIn) -> None:
    await pool.warm()
    assert len(stand_in.pids) == 1
    job = a_job()
    stand_in.say(job.id, DONE)
    await pool.run(job)
    assert len(stand_in.pids) == 1


@pytest.mark.parametrize(
    ("types", "open_to"),
    [
        ([JobType.SYNC], ALL),
        ([JobType.SYNC, JobType.COPY], SHORT),
        ([JobType.SYNC, JobType.CREATE, JobType.RESTORE], frozenset()),
        ([JobType.DELETE], ALL),
        ([JobType.DELETE, JobType.EXPIRE], ALL),
        ([JobType.DELETE, JobType.START, JobType.COPY], frozenset()),
        ([JobType.SNAPSHOT, JobType.STOP, JobType.RESTART], frozenset()),
    ],
)
async def test_a_pool_of_two_has_a_third_worker_that_no_transfer_gets(
    pool: Pool, stand_in: StandIn, types: list[JobType], open_to: frozenset[JobType]
) -> None:
    jobs = [a_job(type) for type in types]
    running: list[asyncio.Task[Message]] = []
    for job in jobs:
        stand_in.say(job.id, "hang")
        running.append(asyncio.create_task(pool.run(job)))
        await asyncio.sleep(0)
    while_they_start = pool.open_to
    await until(lambda: len(pool._busy) == len(jobs))
    while_they_run = pool.open_to
    for job in jobs:
        await pool.kill(job.id)
    assert await asyncio.gather(*running) == [LOST] * len(jobs)
    assert while_they_start == while_they_run == open_to
    assert pool.open_to == ALL
    assert stand_in.alive == []


def test_a_job_that_brings_something_is_not_short() -> None:
    bringing = {JobType.CREATE, JobType.COPY, JobType.SYNC, JobType.PRESPAWN}
    assert bringing == ALL - SHORT


@pytest.mark.parametrize(
    "answer", ["die", "no json", "[1, 2]", "\xff", '{"result": ' + "1" * (lines.LINE_BYTES_MAX * 2)]
)
async def test_a_worker_that_gives_no_answer_is_lost_and_replaced(
    pool: Pool, stand_in: StandIn, answer: str
) -> None:
    job, other = a_job(), a_job()
    stand_in.say(job.id, answer)
    stand_in.say(other.id, DONE)
    assert await pool.run(job) == LOST
    assert stand_in.alive == []
    assert await pool.run(other) == json.loads(DONE)
    assert len(stand_in.pids) == 2


async def test_a_worker_killed_from_outside_while_it_waits_is_replaced(
    pool: Pool, stand_in: StandIn
) -> None:
    await pool.warm()
    os.kill(stand_in.pids[0], 9)
    await until(lambda: not pool._idle[0].alive)
    job = a_job()
    stand_in.say(job.id, DONE)
    assert await pool.run(job) == json.loads(DONE)
    assert len(stand_in.pids) == 2


async def test_a_job_that_is_given_up_takes_its_worker_along(pool: Pool, stand_in: StandIn) -> None:
    job = a_job()
    stand_in.say(job.id, "hang")
    running = asyncio.create_task(pool.run(job))
    await until(lambda: stand_in.hanging)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert stand_in.alive == []
    assert pool.open_to == ALL


async def test_a_job_that_is_given_up_while_its_worker_starts_takes_it_along(
    pool: Pool, stand_in: StandIn
) -> None:
    stand_in.greet("hang")
    jobs = [a_job(), a_job()]
    running = [asyncio.create_task(pool.run(job)) for job in jobs]
    await until(lambda: stand_in.hanging and len(stand_in.pids) == 2)
    assert pool.open_to == SHORT
    for task in running:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert stand_in.alive == []
    assert pool.open_to == ALL


@pytest.mark.parametrize("greeting", ["die", "no json"])
async def test_a_worker_that_cannot_start_loses_its_job(
    pool: Pool, stand_in: StandIn, greeting: str
) -> None:
    stand_in.greet(greeting)
    job = a_job()
    stand_in.say(job.id, "die")
    assert await pool.run(job) == LOST
    assert stand_in.alive == []


async def test_a_child_is_started_anew_whenever_it_ends(stand_in: StandIn) -> None:
    heard: list[Message] = []
    children: list[Child] = []

    async def hear(message: Message) -> None:
        heard.append(message)

    stand_in.say("none", "die")
    keeping = asyncio.create_task(keep_alive("keeper", stand_in.config_path, children.append, hear))
    await until(lambda: len(heard) == 1)
    children[0].tell({})
    await until(lambda: len(heard) == 2)
    await children[1].kill()
    await until(lambda: len(heard) == 3)
    stand_in.say("none", "no json")
    children[2].tell({})
    await until(lambda: len(heard) == 4)
    assert heard == [{"ready": True}] * 4
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping
    assert stand_in.alive == []


async def test_what_is_told_to_the_dead_is_lost(stand_in: StandIn) -> None:
    child = await Child.start("keeper", stand_in.config_path)
    await child.kill()
    await child.kill()
    child.tell({"collect": True})
    assert await child.read() is None


async def test_a_process_ends_with_its_orders() -> None:
    """Whatever it is doing: nothing of a dead daemon works on."""
    code = (
        "import asyncio\n"
        "from daemon import lines\n"
        "async def work():\n"
        "    while True:\n"
        "        await asyncio.sleep(0.01)\n"
        "async def main():\n"
        "    working = asyncio.create_task(work())\n"
        "    async for order in lines.orders():\n"
        "        lines.tell({'heard': order})\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        code,
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(lines.encode({"job": "1"}))
    assert json.loads(await process.stdout.readline()) == {"heard": {"job": "1"}}
    process.stdin.close()
    assert await process.wait() == 0
    assert await process.stdout.read() == b""
