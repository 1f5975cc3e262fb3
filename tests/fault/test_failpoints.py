"""kill -9 of the worker at every boundary of every type of job.

A first job of each kind runs undisturbed and shows its boundaries. Each of them is then struck, in
a job of its own: it ends well without help, and nothing is left over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from daemon.model import JobType
from tests.acceptance.api import Api
from tests.acceptance.cluster import Cluster
from tests.fault.boundaries import LANES, freezing_cluster, frozen, job_about, order, passed
from tests.fault.disturbing import assert_clean
from tests.fault.scenes import SCENES, Scene

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with freezing_cluster() as cluster:
        yield cluster


async def undisturbed(kind: type[Scene], cluster: Cluster, api: Api) -> list[str]:
    """The boundaries of a job of this kind."""
    scene = kind(cluster, api)
    await scene.set_up()
    await scene.prepare()
    await scene.ask()
    await scene.assert_done(await api.done(await job_about(cluster, scene.subject)))
    return passed(cluster, scene.subject)


async def strike(scene: Scene, boundary: str) -> None:
    await scene.prepare()
    order(scene.cluster, scene.subject, boundary)
    asking = asyncio.create_task(scene.ask())
    stopped = await frozen(scene.cluster, scene.subject)
    stopped.kill()
    job = await scene.api.done(stopped.job_id)
    assert job["attempt"] == 2
    await asking
    await scene.assert_done(job)


@pytest.mark.parametrize("kind", SCENES)
async def test_worker(cluster: Cluster, kind: type[Scene]) -> None:
    async with cluster.api() as api:
        boundaries = await undisturbed(kind, cluster, api)
        print(kind.__name__, len(boundaries), boundaries)
        left = iter(boundaries)

        async def lane() -> None:
            scene = kind(cluster, api)
            await scene.set_up()
            for boundary in left:
                await strike(scene, boundary)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(LANES, len(boundaries))):
                group.create_task(lane())


async def test_clean(cluster: Cluster) -> None:
    await assert_clean(cluster)
