"""Idempotency-Key on real daemons: asked through both at once, and by a client whose daemon died
before it could answer. There is one job, and one answer."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.acceptance.api import Api, Json, Refused
from tests.acceptance.cluster import Cluster
from tests.fault.dying import PLACES

ROUNDS = 5
TRIES_MAX = 300
PAUSE_SECONDS = 0.1


class DyingCluster(Cluster):
    """A cluster whose daemons are `dying.py`."""

    program = "tests.fault.dying"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with (
        tempfile.TemporaryDirectory(prefix="hoody-") as name,
        DyingCluster(Path(name), "dir", 2) as cluster,
    ):
        (cluster.imports / "tree").mkdir()
        (cluster.imports / "tree" / "file").write_text("content")
        yield cluster


@pytest.fixture
async def source(cluster: Cluster) -> AsyncIterator[str]:
    """A container on the first server."""
    async with cluster.api() as api:
        yield await api.create(cluster.tree("tree"))


async def jobs_of(api: Api, container_id: str, kind: str) -> list[str]:
    """The ids of a container's jobs of one type."""
    listed = await api.call("GET", f"/jobs?container_id={container_id}&type={kind}")
    return [job["id"] for job in listed["jobs"]]


async def answered(api: Api, path: str, key: str, **body: object) -> tuple[Json, str, bool]:
    """The answer, once the first request is no longer in progress."""
    for _ in range(TRIES_MAX):
        try:
            return await api.once(path, key, **body)
        except Refused as refused:
            if refused.code != "IDEMPOTENCY_IN_PROGRESS":
                raise
        await asyncio.sleep(PAUSE_SECONDS)
    raise AssertionError("the first request stays in progress")


async def test_through_both_servers_at_once(cluster: Cluster, source: str) -> None:
    async with cluster.api(0) as here, cluster.api(1) as there:
        body = {"target_project_id": here.project_id}
        path = f"/containers/{source}/copy"
        started = []
        for number in range(ROUNDS):
            both = await asyncio.gather(
                *(api.once(path, f"twice-{number}", **body) for api in (here, there))
            )
            (one, one_job, one_again), (other, other_job, other_again) = both
            assert (one, one_job) == (other, other_job)
            assert one_again != other_again
            started.append(one_job)
        for job_id in started:
            await here.done(job_id)
        listed = await here.call("GET", f"/containers?source_container_id={source}")
        assert listed["pagination"]["total"] == ROUNDS


async def die(cluster: Cluster, place: str, path: str, body: Json) -> None:
    """Asks the first server, the place being the key; it dies there, and comes back."""
    daemon = cluster.daemons[0]
    async with cluster.api(0) as api:
        (cluster.directory / place).touch()
        with pytest.raises(aiohttp.ClientConnectionError):
            await api.once(path, place, **body)
    daemon.kill()  # fails where a child of it lives on
    daemon.start()


async def test_killed_between_commit_and_answer(cluster: Cluster, source: str) -> None:
    async with cluster.api(1) as there:
        body = {"target_project_id": there.project_id}
        path = f"/containers/{source}/copy"
        await die(cluster, "answering", path, body)
        listed = await there.call("GET", f"/containers?source_container_id={source}")
        (made,) = listed["containers"]
        (job_id,) = await jobs_of(there, made["id"], "copy")
        async with cluster.api(0) as here:
            for api in (here, there):
                data, again, is_replay = await api.once(path, "answering", **body)
                assert (data["id"], data["status"]) == (made["id"], "copying")
                assert (again, is_replay) == (job_id, True)
        await there.done(job_id)
        assert await jobs_of(there, made["id"], "copy") == [job_id]


@pytest.mark.parametrize("place", PLACES)
async def test_killed_while_a_snapshot_is_waited_for(
    cluster: Cluster, source: str, place: str
) -> None:
    """The answer is made of the job where it was not stored; that is what the client is told."""
    async with cluster.api(1) as there:
        path, body = f"/containers/{source}/snapshots", {"alias": "before"}
        await die(cluster, place, path, body)
        (job_id,) = await jobs_of(there, source, "snapshot")
        data, again, is_replay = await answered(there, path, place, **body)
        assert (again, is_replay) == (job_id, True)
        listed = await there.call("GET", f"/containers/{source}/snapshots")
        assert [entry["name"] for entry in listed["snapshots"]] == [data["snapshot"]["name"]]
        async with cluster.api(0) as here:
            assert await here.once(path, place, **body) == (data, job_id, True)
        assert await jobs_of(there, source, "snapshot") == [job_id]
