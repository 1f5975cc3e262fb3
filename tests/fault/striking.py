"""What both kinds of -9 at every boundary share: the boundaries of a job of some kind, a job that
stops at one, and the tally of what was struck."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from daemon.model import JobType
from tests.acceptance.api import ENDED, Api, Json
from tests.acceptance.cluster import Cluster
from tests.fault.boundaries import Frozen, forget, frozen, job_about, order, passed
from tests.fault.scene import Scene
from tests.fault.scenes import SCENES

JOB_SECONDS = 240.0
LOOK_SECONDS = 1.0
RARE_LOOK_SECONDS = 5.0
TRIES_MAX = 10


async def undisturbed(kind: type[Scene], cluster: Cluster, api: Api) -> list[str]:
    """The boundaries that a job of this kind passes."""
    scene = kind(cluster, api)
    await scene.set_up()
    await scene.prepare()
    forget(cluster, scene.subject)
    await scene.ask()
    await scene.assert_done(await api.done(await job_about(cluster, scene.subject)))
    found = passed(cluster, scene.subject)
    assert len(found) == len(set(found)) >= 2
    return found


async def frozen_at(scene: Scene, boundary: str) -> tuple[Frozen, asyncio.Task[object]]:
    """Asks for a job; its worker, once it has stopped at the boundary, and who waits for it.

    A job that has ended well without having come there is followed by another one: what one has
    to do depends on what the collector has left, and on whether a tree may have been written to
    in the tick of its snapshot.
    """
    for _ in range(TRIES_MAX):
        await scene.prepare()
        forget(scene.cluster, scene.subject)
        order(scene.cluster, scene.subject, boundary)
        asking = asyncio.create_task(scene.ask())
        stopping = asyncio.create_task(frozen(scene.cluster, scene.subject))
        ending = asyncio.create_task(_ended(scene))
        await asyncio.wait({stopping, ending}, return_when=asyncio.FIRST_COMPLETED)
        if stopping.done():
            ending.cancel()
            return await stopping, asking
        stopping.cancel()
        await asking
        await scene.assert_done(await ending)
    raise AssertionError(f"in {TRIES_MAX} jobs none came there again")


async def _ended(scene: Scene) -> Json:
    """The job about the scene's subject, once it has ended."""
    job_id = await job_about(scene.cluster, scene.subject)
    return await done(scene.api, job_id, RARE_LOOK_SECONDS)


async def done(api: Api, job_id: str, look_seconds: float = LOOK_SECONDS) -> Json:
    """The job once it has ended, and well. It is looked at seldom, for many are waited for: a
    wait at the API looks four times a second for each."""
    async with asyncio.timeout(JOB_SECONDS):
        while (job := await api.job(job_id))["state"] not in ENDED:
            await asyncio.sleep(look_seconds)
    assert job["state"] == "succeeded", job
    return job


class Tally:
    """What jobs of each kind have passed, and where such jobs were struck."""

    def __init__(self) -> None:
        self.passed: dict[type[Scene], list[str]] = {}
        self.struck: dict[type[Scene], list[str]] = {kind: [] for kind in SCENES}

    @contextmanager
    def striking(self, kind: type[Scene], boundary: str) -> Iterator[None]:
        """What fails within says what was struck."""
        try:
            yield
        except Exception as error:
            error.add_note(f"{kind.__name__} was struck {boundary}")
            raise

    def assert_whole(self) -> None:
        """No type and no boundary was left out."""
        assert {kind.type for kind in self.passed} == set(JobType)
        assert {kind: sorted(places) for kind, places in self.struck.items()} == {
            kind: sorted(places) for kind, places in self.passed.items()
        }


def lanes_for(count: int, each: int) -> int:
    """How many lanes carry `count` strikes, at most `each` one after the other."""
    return -(-count // each)
