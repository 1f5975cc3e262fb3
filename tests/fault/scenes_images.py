"""Scenes of jobs that begin with an image of server a, which comes to server b."""

from __future__ import annotations

import asyncio

from daemon.model import JobType, new_id
from tests.acceptance import trees
from tests.acceptance.api import Json
from tests.acceptance.space import forest_of
from tests.fault.scene import Scene
from tests.images import add_at


class _Shipping(Scene):
    """Each is about an image of its own, so that it has to come."""

    async def set_up(self) -> None:
        self._tree = await asyncio.to_thread(self.tree)

    async def prepare(self) -> None:
        self.about = new_id()

    async def make_image(self, *, prespawn: bool = False) -> str:
        """Makes the image that the next job is about; its snapshot."""
        columns = {"id": self.about, "alias": f"image/{self.about}", "prespawn": prespawn}
        made = await add_at(self.cluster.daemons[0].config_path, self._tree, **columns)
        assert made.guid is not None
        return made.guid


class CreateAs(_Shipping):
    type = JobType.CREATE

    async def ask(self) -> object:
        await self.make_image()
        body = {"project_id": self.api.project_id, "image": self.about}
        server_id = self.cluster.daemons[1].server_id
        return await self.api.call("POST", "/containers", server_id=server_id, **body)

    async def assert_done(self, job: Json) -> None:
        assert (await self.api.container(job["container_id"]))["status"] == "running"
        source = await asyncio.to_thread(trees.walk, self._tree)
        if not self.cluster.zfs:
            assert not trees.differences(source, await self.walk(job["container_id"]))

    async def assert_undone(self, job: Json) -> None:
        await self.assert_in_error(job["container_id"])


class Prespawn(_Shipping):
    """Nobody asks for it but the time."""

    type = JobType.PRESPAWN

    async def ask(self) -> object:
        self._guid = await self.make_image(prespawn=True)
        return None

    async def assert_done(self, job: Json) -> None:
        assert (await forest_of(self.cluster.daemons[1])).find(self._guid) is not None

    async def assert_undone(self, job: Json) -> None:
        assert job["state"] == "cancelled"
