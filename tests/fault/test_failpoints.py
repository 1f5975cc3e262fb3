"""kill -9 of the worker at every boundary of every type of job.

A first job of each kind runs undisturbed and shows its boundaries. Each of them is then struck, in
a job of its own: it ends well without help, and nothing is left over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from daemon.model import JobType
from tests.acceptance.cluster import Cluster
from tests.fault.boundaries import LANES, freezing_cluster
from tests.fault.disturbing import assert_clean
from tests.fault.scenes import SCENES, Scene, frozen_at, undisturbed

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with freezing_cluster() as cluster:
        yield cluster


async def strike(scene: Scene, boundary: str) -> None:
    stopped, asking = await frozen_at(scene, boundary)
    stopped.kill()
    job = await scene.api.done(stopped.job_id)
    assert job["attempt"] >= 2, boundary  # more where it met another lane's job on its way
    await asking
    await scene.assert_done(job)


@pytest.mark.parametrize("kind", SCENES)
async def test_a_killed_worker(cluster: Cluster, kind: type[Scene]) -> None:
    async with cluster.api() as api:
        boundaries = await undisturbed(kind, cluster, api)
        assert len(boundaries) == len(set(boundaries)) >= 2
        left = list(boundaries)

        async def lane() -> None:
            scene = kind(cluster, api)
            await scene.set_up()
            while left:
                await strike(scene, left.pop())

        async with asyncio.TaskGroup() as group:
            for _ in range(min(LANES, len(boundaries))):
                group.create_task(lane())


async def test_nothing_is_left(cluster: Cluster) -> None:
    """Of all that was struck; what is half-made or held does not go by itself."""
    assert {kind.type for kind in SCENES} == set(JobType)
    await assert_clean(cluster)
