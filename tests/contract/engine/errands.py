"""A job of every type, to be begun again and again in a world; and what is right at its end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from daemon.model import Container, Job, JobState, JobType, Status, UserSnapshot, new_id, now
from daemon.store import user_snapshots
from tests.contract.engine.depot import Depot
from tests.engine_world import Place, World


@dataclass
class Errand:
    """One job: about which container, and how both ends of it are told apart.

    `done`: asserts that the job has done what it is for. `undone`: that nothing has become of it.
    """

    job: Job
    done: Callable[[], Awaitable[None]]
    undone: Callable[[], Awaitable[None]]


Begin = Callable[[World], Awaitable[Errand]]


async def _seen(world: World, container: Container) -> tuple[object, ...]:
    """What a user sees of it."""
    found = await world.get(container.id)
    listed = [entry.id for entry in await world.listed(container)]
    text = (await world.live(container) / "file").read_text()
    return found.status, found.generation_id, found.taken_guid, text, listed


async def _unchanged(world: World, container: Container) -> Callable[[], Awaitable[None]]:
    before = await _seen(world, container)

    async def undone() -> None:
        assert await _seen(world, container) == before

    return undone


async def _first_life(world: World, job: Job, text: str) -> Errand:
    """Of a job that makes a container, which then has this text in its file."""
    container = await world.get(job.container_id)

    async def done() -> None:
        assert (await world.get(container.id)).status is Status.RUNNING
        assert (await world.live(container) / "file").read_text() == text

    async def undone() -> None:
        found = await world.get(container.id)
        assert (found.status, found.generation_id) == (Status.ERROR, None)
        assert found.status_reason

    return Errand(job, done, undone)


async def create(world: World) -> Errand:
    made = await world.add(f"web-{new_id()}")
    params = {"source_path": str(world.tree)}
    return await _first_life(world, await world.queue(JobType.CREATE, made, params=params), "first")


async def create_on(world: World, place: Place) -> Errand:
    """From an image of its own."""
    _, job = await (await Depot.of(world)).begin(place)
    return await _first_life(world, job, "first")


async def prespawn(world: World) -> Errand:
    depot = await Depot.of(world, prespawn=True)
    (job,) = await depot.queue_missing(world.there)

    async def done() -> None:
        assert await depot.holder(world.there) is not None

    async def undone() -> None:
        assert (await world.job(job.id)).state is JobState.CANCELLED

    return Errand(job, done, undone)


async def copy_to(world: World, place: Place) -> Errand:
    """Of a source with a history."""
    source = await world.create(f"source-{new_id()}")
    await world.snapshot(source)
    (await world.live(source) / "file").write_text("second")
    _, job = await world.begin_copy(source, place, f"copy-{new_id()}")
    return await _first_life(world, job, "second")


async def sync_on(world: World, place: Place) -> Errand:
    source = await world.create(f"source-{new_id()}")
    copy = await world.copy(source, place, f"copy-{new_id()}")
    await world.snapshot(source)
    (await world.live(source) / "file").write_text("second")
    undone = await _unchanged(world, copy)

    async def done() -> None:
        assert (await world.live(copy) / "file").read_text() == "second"
        assert len(await world.listed(copy)) == 1
        assert (await world.get(copy.id)).status is Status.RUNNING

    return Errand(await world.begin_sync(copy), done, undone)


async def sync_of_a_list(world: World) -> Errand:
    """Nothing is new but a snapshot."""
    source = await world.create(f"source-{new_id()}")
    copy = await world.copy(source, world.there, f"copy-{new_id()}")
    await world.snapshot(source)
    undone = await _unchanged(world, copy)

    async def done() -> None:
        assert len(await world.listed(copy)) == 1
        assert (await world.get(copy.id)).status is Status.RUNNING

    return Errand(await world.begin_sync(copy), done, undone)


async def _with_snapshot(world: World, **params: object) -> tuple[Container, UserSnapshot]:
    """A container that has been written since its snapshot was taken."""
    container = await world.create(f"web-{new_id()}")
    entry = await world.snapshot(container, **params)
    (await world.live(container) / "file").write_text("second")
    return container, entry


async def restore(world: World) -> Errand:
    container, entry = await _with_snapshot(world)
    undone = await _unchanged(world, container)

    async def done() -> None:
        assert (await world.live(container) / "file").read_text() == "first"
        assert (await world.get(container.id)).status is Status.RUNNING

    return Errand(await world.begin_restore(container, entry), done, undone)


async def _listing(world: World, container: Container, job: Job, listed: int) -> Errand:
    """Of a job that leaves so many snapshots on the list."""

    async def done() -> None:
        assert len(await world.listed(container)) == listed

    return Errand(job, done, await _unchanged(world, container))


async def snapshot(world: World) -> Errand:
    container, _ = await _with_snapshot(world)
    return await _listing(world, container, await world.begin_snapshot(container), 2)


async def snapshot_delete(world: World) -> Errand:
    container, entry = await _with_snapshot(world)
    return await _listing(world, container, await world.begin_delete_snapshot(entry), 0)


async def expire(world: World) -> Errand:
    container, entry = await _with_snapshot(world)
    async with world.db.write() as tx:
        over = now() - timedelta(seconds=1)
        await user_snapshots.change(tx, container.id, entry.id, expires_at=over)
    return await _listing(world, container, await world.begin_expire(container), 0)


async def power(world: World, type: JobType) -> Errand:
    container = await world.create(f"web-{new_id()}")
    if type is JobType.START:
        await world.change(container, status=Status.STOPPED)
    undone = await _unchanged(world, container)

    async def done() -> None:
        after = Status.STOPPED if type is JobType.STOP else Status.RUNNING
        assert (await world.get(container.id)).status is after

    return Errand(await world.queue(type, container), done, undone)


async def delete(world: World) -> Errand:
    container = await world.create(f"web-{new_id()}")
    undone = await _unchanged(world, container)

    async def done() -> None:
        assert await world.find(container.id) is None

    return Errand(await world.begin_remove(container), done, undone)


ERRANDS: dict[str, Begin] = {
    "create": create,
    "create here": lambda world: create_on(world, world.here),
    "create there": lambda world: create_on(world, world.there),
    "copy here": lambda world: copy_to(world, world.here),
    "copy there": lambda world: copy_to(world, world.there),
    "sync here": lambda world: sync_on(world, world.here),
    "sync there": lambda world: sync_on(world, world.there),
    "sync of a list": sync_of_a_list,
    "restore": restore,
    "snapshot": snapshot,
    "snapshot_delete": snapshot_delete,
    "expire": expire,
    "start": lambda world: power(world, JobType.START),
    "stop": lambda world: power(world, JobType.STOP),
    "restart": lambda world: power(world, JobType.RESTART),
    "delete": delete,
    "prespawn": prespawn,
}
