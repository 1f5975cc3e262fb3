"""A catalogue in PostgreSQL that goes away in the middle of a copy: one server's connections are
cut, or PostgreSQL itself stops as in a crash. No daemon ends, no job is lost or fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from tests.acceptance.api import ENDED, Api, Json, Refused, refuses
from tests.fault.boundaries import FreezingCluster, MakeCluster
from tests.fault.disturbing import assert_clean, assert_same, halted, in_the_middle, source_on_a
from tests.postgres import Postgres, serving

pytestmark = pytest.mark.postgres

TREE_BYTES = 8 << 20
MIDDLE_BYTES = 3 << 20
CUTS = 5
POLL_SECONDS = 0.1
AGAIN_SECONDS = 180.0


@pytest.fixture(scope="module")
def backend() -> str:
    """Nothing here depends on the storage."""
    return "dir"


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A running server, in which each of ours is a user of its own."""
    with serving() as server:
        for name in ("a", "b"):
            server.create_user(name)
        yield server


@pytest.fixture(scope="module")
def new_catalogue(postgres: Postgres) -> Callable[[], str]:
    """The only database of the server."""

    def make() -> str:
        postgres.create("catalogue")
        return postgres.url("catalogue", user="{server}")

    return make


@pytest.fixture(scope="module")
def cluster(make_cluster: MakeCluster) -> FreezingCluster:
    """Two servers, a and b."""
    return make_cluster(2)


async def answers_again(api: Api) -> None:
    """Returns when the API no longer says 503."""
    async with asyncio.timeout(AGAIN_SECONDS):
        while True:
            try:
                await api.call("GET", "/projects")
            except Refused as refused:
                assert (refused.status, refused.code) == (503, "SERVICE_UNAVAILABLE")
                await asyncio.sleep(POLL_SECONDS)
            else:
                return


async def ended(api: Api, job_id: str) -> Json:
    """The job once it has ended; what its error says meanwhile is that it will be tried again."""
    async with asyncio.timeout(AGAIN_SECONDS):
        while (job := await api.job(job_id))["state"] not in ENDED:
            assert job["error"] is None or job["error"]["retryable"], job
            await asyncio.sleep(POLL_SECONDS)
    assert job["state"] == "succeeded", job
    return job


def assert_alive(cluster: FreezingCluster, pids: list[int]) -> None:
    """The daemons are those of before, and met nothing that they did not know."""
    assert [daemon.pid for daemon in cluster.daemons] == pids
    for daemon in cluster.daemons:
        assert daemon.is_ready()
        assert "Traceback" not in daemon.log_tail(1_000_000)


@pytest.mark.parametrize("user", ["a", "b"])
async def test_one_servers_connections_are_cut(
    cluster: FreezingCluster, postgres: Postgres, user: str
) -> None:
    """Again and again: those of the server that serves, or of the one that pulls."""
    source = await source_on_a(cluster, f"cut-{user}", TREE_BYTES)
    pids = [daemon.pid for daemon in cluster.daemons]
    async with cluster.api(0) as here, cluster.api(1) as there:
        with halted(cluster, MIDDLE_BYTES):
            started = await here.start_copy(source, cluster.daemons[1].server_id)
            await in_the_middle(here, started.job_id, MIDDLE_BYTES)
            assert postgres.cut(user) > 0
            for _ in range(CUTS):
                await asyncio.sleep(POLL_SECONDS)
                postgres.cut(user)
        for api in (here, there):
            await answers_again(api)
        watcher = there if user == "a" else here
        await ended(watcher, started.job_id)
        await assert_same(here, cluster, source, started.container_id)
        await here.sync(started.container_id)
    assert_alive(cluster, pids)


async def test_postgresql_is_restarted(cluster: FreezingCluster, postgres: Postgres) -> None:
    """As after a crash. Meanwhile the API says 503, whatever it is asked."""
    source = await source_on_a(cluster, "restarted", TREE_BYTES)
    pids = [daemon.pid for daemon in cluster.daemons]
    async with cluster.api(0) as here, cluster.api(1) as there:
        with halted(cluster, MIDDLE_BYTES):
            started = await here.start_copy(source, cluster.daemons[1].server_id)
            await in_the_middle(here, started.job_id, MIDDLE_BYTES)
            postgres.stop(immediately=True)
        try:
            for api in (here, there, here, there):
                with refuses(503, "SERVICE_UNAVAILABLE"):
                    await api.job(started.job_id)
                with refuses(503, "SERVICE_UNAVAILABLE"):
                    await api.start_sync(source)
            assert not any(daemon.is_ready() for daemon in cluster.daemons)
        finally:
            postgres.start()
        for api in (here, there):
            await answers_again(api)
        await ended(there, started.job_id)
        await assert_same(here, cluster, source, started.container_id)
        copy, _job = await there.copy(started.container_id, cluster.daemons[0].server_id)
        await assert_same(here, cluster, source, copy)
    assert_alive(cluster, pids)


async def test_nothing_is_left(cluster: FreezingCluster) -> None:
    """Of all that was disturbed."""
    await assert_clean(cluster)
