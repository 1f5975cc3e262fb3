"""What all scenes share: one job after the other, and what a user sees of a container."""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path

from daemon.model import JobType
from tests.acceptance import trees
from tests.acceptance.api import Api, Json
from tests.acceptance.cluster import Cluster
from tests.acceptance.space import gone

_numbers = count()


class Scene:
    """One job after the other: `prepare`, `ask`, and then one of the two `assert_`s.

    `about` is what the job is known by before it is there (freezing.subject_of).
    """

    type: JobType

    def __init__(self, cluster: Cluster, api: Api) -> None:
        self.cluster = cluster
        self.api = api
        self.about = ""

    @property
    def subject(self) -> str:
        return f"{self.type}-{self.about}"

    async def set_up(self) -> None:
        """Once, before the first."""
        self.about = await self.source(1)

    async def prepare(self) -> None:
        """Before each, so that the job has something to do."""

    async def ask(self) -> object:
        """Has the job made; some verbs wait for its end."""
        raise NotImplementedError

    async def assert_done(self, job: Json) -> None:
        """The job has ended well: all is as it should be."""
        raise NotImplementedError

    async def assert_undone(self, job: Json) -> None:
        """The job was cancelled in time: all is as it was."""
        raise NotImplementedError

    def tree(self) -> str:
        """A small tree with all kinds of things in it."""
        made = self.cluster.tree(f"tree-{next(_numbers)}")
        trees.make(made, files=5, big_bytes=1 << 16, sparse_bytes=1 << 20)
        return made

    async def source(self, number: int) -> str:
        """A container made of such a tree, on the server with this number. What a job has to do
        with it is always the same: it has a snapshot, which is neither its first state nor its
        last, and what was taken in for it is collected, where the backend lets it."""
        daemon = self.cluster.daemons[number]
        tree = await asyncio.to_thread(self.tree)
        container = await self.api.create(tree, server_id=daemon.server_id)
        await self.write(container)
        await self.api.snapshot(container)
        await self.write(container)
        if not self.cluster.zfs:
            await gone(daemon, (await self.api.storage(container))["origin_guid"])
        return container

    async def write(self, container: str) -> None:
        """Something new in the container."""
        path = Path(await self.api.rootfs(container), "srv/mark")
        path.write_text(f"mark {next(_numbers)}")

    async def walk(self, container: str) -> dict[bytes, trees.Entry]:
        """The container's live tree."""
        rootfs = await self.api.rootfs(container)
        granularity_ns = 1_000_000_000 if self.cluster.zfs else 1
        return await asyncio.to_thread(trees.walk, rootfs, granularity_ns)

    async def seen(self, container: str) -> object:
        """All that a user sees of it."""
        found = await self.api.container(container)
        return (
            found["status"],
            (await self.api.storage(container))["generation"],
            await self.walk(container),
            [entry["guid"] for entry in await self.api.snapshots(container)],
        )

    async def assert_same(self, source: str, copy: str) -> None:
        """The copy runs, and is as its source is."""
        assert (await self.api.container(copy))["status"] == "running"
        assert not trees.differences(await self.walk(source), await self.walk(copy))
        guids = [[s["guid"] for s in await self.api.snapshots(one)] for one in (source, copy)]
        assert guids[0] == guids[1]

    async def assert_in_error(self, container: str) -> None:
        """It never came to live, and says why."""
        found = await self.api.container(container)
        assert (found["status"], bool(found["status_reason"])) == ("error", True)
