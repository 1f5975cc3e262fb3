"""kill -9 of the daemon and its worker at every boundary of a copy and of a sync: of several jobs
at once, each at a boundary of its own. When the daemon is back they end well, and nothing is left.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator, Sequence

import pytest

from tests.acceptance.cluster import Cluster
from tests.fault.boundaries import LANES, freezing_cluster
from tests.fault.disturbing import assert_clean
from tests.fault.scenes import Copy, CopyNear, Scene, Sync, SyncNear, frozen_at, undisturbed

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with freezing_cluster() as cluster:
        yield cluster


async def strike(cluster: Cluster, scenes: Sequence[Scene], boundaries: Sequence[str]) -> None:
    """One job a scene stops at one of the boundaries; then all of them die with their daemon."""
    pairs = zip(scenes, boundaries, strict=True)
    stopped = await asyncio.gather(*(frozen_at(scene, boundary) for scene, boundary in pairs))
    daemon = cluster.daemons[1]
    os.kill(daemon.pid, signal.SIGKILL)
    for worker, _ in stopped:
        worker.kill()
    daemon.kill()  # fails where a child of it lives on
    daemon.start()
    for scene, (worker, asking) in zip(scenes, stopped, strict=True):
        job = await scene.api.done(worker.job_id)
        assert job["attempt"] == 2
        await asking
        await scene.assert_done(job)


@pytest.mark.parametrize("kind", [Copy, CopyNear, Sync, SyncNear])
async def test_a_killed_daemon(cluster: Cluster, kind: type[Scene]) -> None:
    async with cluster.api() as api:
        boundaries = await undisturbed(kind, cluster, api)
        assert len(boundaries) == len(set(boundaries)) >= 2
        scenes = [kind(cluster, api) for _ in range(LANES)]
        await asyncio.gather(*(scene.set_up() for scene in scenes))
        for first in range(0, len(boundaries), LANES):
            struck = boundaries[first : first + LANES]
            await strike(cluster, scenes[: len(struck)], struck)


async def test_nothing_is_left(cluster: Cluster) -> None:
    """Of all that was struck."""
    await assert_clean(cluster)
