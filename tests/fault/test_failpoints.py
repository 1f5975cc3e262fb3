"""kill -9 of the worker at every boundary of every type of job.

A first job of each kind runs undisturbed and shows its boundaries. Each of them is then struck, in
a job of its own: it ends well without help, and nothing is left over. All kinds are at it at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.acceptance.api import Api
from tests.acceptance.cluster import Cluster
from tests.fault.boundaries import freezing_cluster
from tests.fault.disturbing import assert_clean
from tests.fault.scene import Scene
from tests.fault.scenes import SCENES
from tests.fault.striking import Tally, done, frozen_at, lanes_for, undisturbed

pytestmark = pytest.mark.timeout(900)

STRIKES_PER_LANE = 12


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with freezing_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def tally() -> Tally:
    return Tally()


async def strike(scene: Scene, boundary: str) -> str:
    """Where the worker said that it was when it was killed; its job has ended well."""
    stopped, asking = await frozen_at(scene, boundary)
    stopped.kill()
    job = await done(scene.api, stopped.job_id)
    assert job["attempt"] >= 2  # more where it met another lane's job on its way
    await asking
    await scene.assert_done(job)
    return stopped.boundary


async def strike_everywhere(kind: type[Scene], cluster: Cluster, api: Api, tally: Tally) -> None:
    tally.passed[kind] = await undisturbed(kind, cluster, api)
    left = list(tally.passed[kind])

    async def lane() -> None:
        scene = kind(cluster, api)
        await scene.set_up()
        while left:
            with tally.striking(kind, boundary := left.pop()):
                tally.struck[kind].append(await strike(scene, boundary))

    async with asyncio.TaskGroup() as group:
        for _ in range(lanes_for(len(left), STRIKES_PER_LANE)):
            group.create_task(lane())


async def test_a_killed_worker(cluster: Cluster, tally: Tally) -> None:
    async with cluster.api() as api, asyncio.TaskGroup() as group:
        for kind in SCENES:
            group.create_task(strike_everywhere(kind, cluster, api, tally))


async def test_nothing_is_left(cluster: Cluster, tally: Tally) -> None:
    """Neither out, of what there was to strike, nor behind, of all that was struck: what is
    half-made or held does not go by itself."""
    tally.assert_whole()
    await assert_clean(cluster)
