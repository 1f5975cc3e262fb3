"""kill -9 of the daemon, with its workers, at every boundary of every type of job.

As in test_failpoints, but many jobs stop at once, of all kinds, each at a boundary of its own; then
one blow strikes them all. When the daemon is back they end well, and nothing is left over. Who
waits for a verb waits at the other server, and outlasts it.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator, Sequence

import psutil
import pytest

from tests.acceptance.cluster import Cluster, Daemon
from tests.fault.boundaries import Frozen, freezing_cluster
from tests.fault.disturbing import assert_clean
from tests.fault.scene import Scene
from tests.fault.scenes import SCENES
from tests.fault.striking import Tally, done, frozen_at, lanes_for, undisturbed

pytestmark = pytest.mark.timeout(900)

BLOWS = 10
END_SECONDS = 60.0

Target = tuple[Scene, str]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with freezing_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def tally() -> Tally:
    return Tally()


def kill(daemon: Daemon, workers: Sequence[Frozen]) -> None:
    """-9, before the daemon can see any of its workers end; the rest of its children end by
    themselves."""
    family = psutil.Process(daemon.pid).children(recursive=True)
    os.kill(daemon.pid, signal.SIGKILL)
    for worker in workers:
        worker.kill()
    daemon.kill()
    _, alive = psutil.wait_procs(family, END_SECONDS)
    assert not alive


async def blow(cluster: Cluster, targets: Sequence[Target], tally: Tally) -> None:
    """The jobs of all targets stop; then all of them die with their daemon, and end well."""
    stopped = await asyncio.gather(*(frozen_at(scene, boundary) for scene, boundary in targets))
    daemon = cluster.daemons[1]
    await asyncio.to_thread(kill, daemon, [worker for worker, _ in stopped])
    await asyncio.to_thread(daemon.start)
    for (scene, boundary), (worker, asking) in zip(targets, stopped, strict=True):
        with tally.striking(type(scene), boundary):
            job = await done(scene.api, worker.job_id)
            assert job["attempt"] >= 2
            await asking
            await scene.assert_done(job)
            tally.struck[type(scene)].append(worker.boundary)


async def test_a_killed_daemon(cluster: Cluster, tally: Tally) -> None:
    async with cluster.api() as api:
        found = await asyncio.gather(*(undisturbed(kind, cluster, api) for kind in SCENES))
        tally.passed |= dict(zip(SCENES, found, strict=True))
        lanes = [
            (kind(cluster, api), boundaries[first :: lanes_for(len(boundaries), BLOWS)])
            for kind, boundaries in tally.passed.items()
            for first in range(lanes_for(len(boundaries), BLOWS))
        ]
        await asyncio.gather(*(scene.set_up() for scene, _ in lanes))
        for number in range(BLOWS):
            targets = [(scene, places[number]) for scene, places in lanes if number < len(places)]
            await blow(cluster, targets, tally)


async def test_nothing_is_left(cluster: Cluster, tally: Tally) -> None:
    """Neither out, of what there was to strike, nor behind, of all that was struck."""
    tally.assert_whole()
    await assert_clean(cluster)
