"""What ends by itself is noted, and what a job is switching is left to that job. No container runs
here: the records that a monitor writes are written by the tests, and a process that has its lock
stands for one that lives."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from daemon.actions import deaths
from daemon.model import Container, Job, JobState, JobType, Status
from daemon.runtime import places
from daemon.runtime.none import NoNetwork
from daemon.runtime.runc import Runc
from daemon.states import Move
from daemon.store import jobs
from tests.engine_world import World
from tests.monitors import monitor_of


class Stage:
    """A server's runtime, of which the test says what has happened."""

    def __init__(self, world: World) -> None:
        state_dir = world.here.config.server.state_dir
        self.world = world
        self.runtime = Runc(state_dir, NoNetwork())
        self.root = str(Path(state_dir, "runtime"))

    def ran(self, container: Container, boot_id: str | None = None) -> None:
        """It has run, in this boot of the machine if in no other."""
        Path(places.folder(self.root, container.id)).mkdir()
        facts = {"pid": 1, "started_ticks": 0, "rootfs": "/nowhere"}
        run = {**facts, "boot_id": boot_id or places.boot_id()}
        places.write_down(places.run(self.root, container.id), run)

    def ends(self, container: Container, exit_code: int) -> None:
        places.write_down(places.ended(self.root, container.id), {"exit_code": exit_code})

    def alive(self, container: Container) -> AbstractContextManager[None]:
        """It has a monitor that lives."""
        return monitor_of(self.root, container.id)

    async def look(self) -> None:
        """Both ways in which the keeper looks."""
        await deaths.note(self.world.db, self.runtime, self.runtime.ended())
        await deaths.note_all(self.world.db, self.runtime, self.world.here.id)

    async def starts(self) -> list[Job]:
        async with self.world.db.read() as tx:
            active = await jobs.active(tx)
        return [job for job in active if job.type is JobType.START]


@pytest.fixture
def stage(world: World) -> Stage:
    return Stage(world)


@pytest.fixture
async def web(world: World) -> Container:
    """A container that should run."""
    return await world.add("web", status=Status.RUNNING, command=("/bin/web",))


async def state(world: World, container: Container) -> tuple[Status, int | None, str | None]:
    now = await world.get(container.id)
    return now.status, now.exit_code, now.status_reason


async def test_an_end_is_noted_once(world: World, stage: Stage, web: Container) -> None:
    stage.ran(web)
    stage.ends(web, 3)
    await stage.look()
    assert await state(world, web) == (Status.STOPPED, 3, None)
    assert not stage.runtime.ended()
    assert not await stage.starts()


async def test_what_lives_is_left_alone(world: World, stage: Stage, web: Container) -> None:
    stage.ran(web)
    with stage.alive(web):
        await stage.look()
        assert (await world.get(web.id)).status is Status.RUNNING
    await stage.look()
    assert await state(world, web) == (Status.STOPPED, None, "it ended, and nobody saw how")


async def test_an_end_is_one_before_its_monitor_is_gone(
    world: World, stage: Stage, web: Container
) -> None:
    stage.ran(web)
    with stage.alive(web):
        stage.ends(web, 1)
        await stage.look()
    assert (await world.get(web.id)).exit_code == 1


@pytest.mark.parametrize("kind", [JobType.RESTART, JobType.STOP, JobType.SYNC, JobType.RESTORE])
async def test_what_a_job_switches_is_the_jobs(
    world: World, stage: Stage, web: Container, kind: JobType
) -> None:
    stage.ran(web)
    job = await world.running(kind, web, params={"was": "running"})
    stage.ends(web, 143)
    await stage.look()
    assert (await world.get(web.id)).status is Status.RUNNING
    await world.end(job)
    await stage.look()
    assert await state(world, web) == (Status.STOPPED, 143, None)


async def test_what_is_to_start_after_a_crash_is_the_jobs(
    world: World, stage: Stage, web: Container
) -> None:
    """Between the commit of its switch and its start the container is said to run, and the next
    attempt goes by that."""
    stage.ran(web)
    stage.ends(web, 143)
    job = await world.running(JobType.SYNC, web, params={"was": "running"})
    await world.end(job, Move.REQUEUE)
    await stage.look()
    assert (await world.get(web.id)).status is Status.RUNNING


@pytest.mark.parametrize("kind", [JobType.SNAPSHOT, JobType.EXPIRE])
async def test_what_a_job_only_reads_is_noted(
    world: World, stage: Stage, web: Container, kind: JobType
) -> None:
    stage.ran(web)
    await world.running(kind, web)
    stage.ends(web, 1)
    await stage.look()
    assert (await world.get(web.id)).status is Status.STOPPED


async def test_a_job_that_waits_changes_nothing_of_the_truth(
    world: World, stage: Stage, web: Container
) -> None:
    stage.ran(web, boot_id="another")
    job = await world.queue(JobType.STOP, web)
    await stage.look()
    assert (await world.get(web.id)).status is Status.STOPPED
    assert not await stage.starts()
    assert (await world.job(job.id)).state is JobState.QUEUED


@pytest.mark.parametrize("before", ["another boot", None])
async def test_what_ran_before_a_boot_starts_again(
    world: World, stage: Stage, web: Container, before: str | None
) -> None:
    """So does what ran before the server had this runtime."""
    quiet = await world.add("quiet", status=Status.RUNNING, command=("/bin/web",), autostart=False)
    if before is not None:
        stage.ran(web, before)
        stage.ran(quiet, before)
    await stage.look()
    await stage.look()
    for container in (web, quiet):
        shown = await state(world, container)
        assert shown == (Status.STOPPED, None, "the server was started anew")
    (job,) = await stage.starts()
    assert (job.container_id, job.user_id, job.server_id) == (web.id, web.owner_id, web.server_id)


async def test_what_is_not_to_run_is_not_looked_at(world: World, stage: Stage) -> None:
    plain = await world.add("plain", status=Status.RUNNING)
    stopped = await world.add("stopped", status=Status.STOPPED, command=("/bin/web",))
    far = await world.add("far", world.there, status=Status.RUNNING, command=("/bin/web",))
    await stage.look()
    for container in (plain, stopped, far):
        assert await world.get(container.id) == container


async def test_a_record_of_what_is_stopped_or_gone_is_dropped(
    world: World, stage: Stage, web: Container
) -> None:
    await world.change(web, status=Status.STOPPED, exit_code=5)
    gone = await world.add("gone", status=Status.RUNNING, command=("/bin/web",))
    await world.remove(gone)
    for container in (web, gone):
        stage.ends(container, 1)
    await stage.look()
    assert not stage.runtime.ended()
    assert await state(world, web) == (Status.STOPPED, 5, None)


async def test_an_end_during_a_sync_is_noted_after_it(
    world: World, stage: Stage, web: Container
) -> None:
    stage.ran(web)
    await world.change(web, status=Status.COPYING)
    job = await world.running(JobType.SYNC, web, params={"was": "running"})
    stage.ends(web, 1)
    await stage.look()
    assert (await world.get(web.id)).status is Status.COPYING
    await world.end(job, Move.FAIL)  # the container is as it was, the catalogue thinks
    assert (await world.get(web.id)).status is Status.RUNNING
    await stage.look()
    assert await state(world, web) == (Status.STOPPED, 1, None)
