"""Schedules on real daemons: a copy follows its source with nobody's hand, once for a due time. The
clock is the tests': what the catalogue has as the next sync's moment is set to another one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from daemon.config import load
from daemon.model import ScheduleRow, now
from daemon.store import schedules
from daemon.store.database import Database
from tests.acceptance import trees
from tests.acceptance.api import Api
from tests.acceptance.cluster import Cluster, MakeCluster

NIGHT_HOUR = (now().hour + 12) % 24  # far away, whenever the tests run
NIGHTLY = f"0 {NIGHT_HOUR} * * *"
DAY = timedelta(days=1)
SWEEP_SECONDS = 0.2  # instead of the 60 between two looks
HANG_SECONDS = 120
POLL_SECONDS = 0.05


@pytest.fixture(scope="module")
def cluster(make_cluster: MakeCluster) -> Cluster:
    """Two servers that look often."""
    return make_cluster(2, {"timing": {"sweep_seconds": SWEEP_SECONDS}})


@pytest.fixture
async def pair(cluster: Cluster, api: Api, request: pytest.FixtureRequest) -> tuple[str, str]:
    """A container on server a that was changed since it was copied to b, and its copy, which is to
    be synced each night."""
    tree = cluster.tree(request.node.originalname)
    trees.make(tree, files=20, big_bytes=1 << 20)
    source = await api.create(tree)
    copy, _job = await api.copy(source, cluster.daemons[1].server_id)
    trees.change(await api.rootfs(source))
    await api.call("PATCH", f"/containers/{copy}", sync_schedule=NIGHTLY)
    return source, copy


@asynccontextmanager
async def catalogue(cluster: Cluster) -> AsyncIterator[Database]:
    db = Database(load(str(cluster.daemons[0].config_path), {}).database.url)
    yield db
    await db.close()


async def row(cluster: Cluster, copy: str) -> ScheduleRow:
    async with catalogue(cluster) as db, db.read() as tx:
        found = await schedules.get(tx, copy)
    assert found is not None
    return found


async def come(cluster: Cluster, copy: str, late: timedelta = timedelta(0)) -> None:
    """The night has come, or came so long ago."""
    async with catalogue(cluster) as db, db.write() as tx:
        await schedules.put(tx, copy, now() - late)


async def until(found: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(HANG_SECONDS):
        while not await found():
            await asyncio.sleep(POLL_SECONDS)


async def synced(cluster: Cluster, api: Api, pair: tuple[str, str], count: int) -> None:
    """Waits until the copy was synced by itself so often; it is as its source is, and waits for
    the next night."""
    source, copy = pair

    async def begun() -> bool:
        return len(await api.jobs(copy, "sync")) >= count

    await until(begun)
    jobs = await api.jobs(copy, "sync")
    for job in jobs:
        await api.done(job["id"])
    assert len(jobs) == count
    assert {job["server_id"] for job in jobs} == {cluster.daemons[1].server_id}
    trees.assert_equal(await api.rootfs(source), await api.rootfs(copy), zfs=cluster.zfs)
    assert now() < (await row(cluster, copy)).next_sync_at < now() + DAY + timedelta(minutes=1)


async def test_a_copy_is_synced_by_itself_once_each_night(
    cluster: Cluster, api: Api, pair: tuple[str, str]
) -> None:
    source, copy = pair
    awaited = (await row(cluster, copy)).next_sync_at
    assert (awaited.hour, awaited.minute) == (NIGHT_HOUR, 0)
    assert await api.jobs(copy, "sync") == []
    for night in (1, 2):
        await come(cluster, copy)
        await synced(cluster, api, pair, night)
        assert (await row(cluster, copy)).next_sync_at == awaited
        trees.change(await api.rootfs(source), seed=10 + night)
    await api.call("PATCH", f"/containers/{copy}", sync_schedule=None)
    async with catalogue(cluster) as db, db.read() as tx:
        assert await schedules.get(tx, copy) is None


async def test_what_was_missed_while_a_server_was_down_is_one_sync_after_any_number_of_starts(
    cluster: Cluster, api: Api, pair: tuple[str, str]
) -> None:
    _source, copy = pair
    daemon = cluster.daemons[1]
    daemon.kill()
    await come(cluster, copy, late=9 * DAY)
    for _ in range(2):
        daemon.launch()

        async def begun() -> bool:
            return len(await api.jobs(copy, "sync")) > 0

        await until(begun)
        daemon.kill()  # the sync is queued, or under way
    daemon.start()
    await synced(cluster, api, pair, 1)
