"""A world with an image, and what is asked about it in tests."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon.actions import ACTIONS, prespawn
from daemon.model import Container, Job, JobType, Json, Role, new_id, now
from daemon.model_images import Image, image_params, image_path
from daemon.store import datasets, images
from tests.engine_world import Place, World
from tests.images import add, image_of
from transfer.model import Dataset


@dataclass
class Depot:
    """`image` lives on the world's first server, and is made of its `tree`."""

    world: World
    image: Image

    @classmethod
    async def of(cls, world: World, **columns: Any) -> Depot:
        home = world.here
        made = image_of(home.id, columns.pop("alias", f"web/{new_id()}"), **columns)
        return cls(world, await add(world.db, home.storage, made, world.tree))

    @property
    def guid(self) -> str:
        assert self.image.guid is not None
        return self.image.guid

    async def begin(self, place: Place, name: str = "") -> tuple[Container, Job]:
        """A container's record and its queued job."""
        given = {"container_image": self.image.alias, "container_image_id": self.image.id}
        made = await self.world.add(name or f"web-{new_id()}", place, **given)
        params = image_params(self.image)
        return made, await self.world.queue(JobType.CREATE, made, params=params)

    async def create(self, place: Place, name: str = "") -> tuple[Container, Json]:
        """A container that runs, and its job's result."""
        made, job = await self.begin(place, name)
        result = await self.world.carry_out(job)
        assert result is not None
        return await self.world.get(made.id), result

    async def create_at_once(self, place: Place, count: int) -> list[Json]:
        """The results of so many creates that all begin before the first one ends."""
        begun = [await self.world.claim((await self.begin(place))[1]) for _ in range(count)]
        contexts = [self.world.context(job) for job in begun]
        found = await asyncio.gather(*(ACTIONS[JobType.CREATE].run(ctx) for ctx in contexts))
        for job, result in zip(begun, found, strict=True):
            await self.world.end(job, result=result)
        return [result for result in found if result is not None]

    async def queue_missing(self, place: Place, at: Any = None) -> list[Job]:
        """What the server's keeper does."""
        found = await prespawn.queue_missing(self.world.db, place.storage, place.id, at or now())
        return [job for job in found if job.container_id == self.image.id]

    async def change(self, **columns: Any) -> None:
        async with self.world.db.write() as tx:
            assert await images.change(tx, self.image.id, **columns)

    async def remove(self) -> None:
        async with self.world.db.write() as tx:
            await images.delete(tx, self.image.id)

    async def holder(self, place: Place) -> Dataset | None:
        """The dataset on a server that has the image's snapshot."""
        forest = await place.storage.forest()
        found = forest.find(self.guid)
        return None if found is None else forest.datasets[found.dataset]

    async def mirrors(self, place: Place) -> list[str]:
        """The paths of a server's mirrors of the image."""
        async with self.world.db.read() as tx:
            rows = await datasets.of_generation(tx, place.id, self.image.id)
        return [row.path for row in rows if row.role is Role.MIRROR]

    @property
    def path(self) -> str:
        return image_path(self.image.id)

    async def text(self, container: Container) -> str:
        return Path(await self.world.live(container), "file").read_text()

    async def assert_runs(self, containers: Sequence[Container], text: str = "first") -> None:
        for container in containers:
            assert await self.text(container) == text
