"""Two daemons on loopback, containers of incompressible bytes, and their copies."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import datetime
from typing import cast

from daemon.client import Client, Json
from daemon.demo.servers import DemoFailed, Servers

LARGE_BYTES = 2_000_000_000
SMALL_BYTES = 20_000_000
FILES = 20
BLOCK_BYTES = 1 << 20


class World:
    """The running servers; the first one has the containers that are copied."""

    def __init__(self, servers: Servers, client: Client, say: Callable[[str], None]) -> None:
        self.servers = servers
        self.say = say
        self._client = client
        self._names = 0

    async def create(self, size_bytes: int) -> str:
        """A container of so many bytes on the first server; returns its id."""
        self.say(f"{self.servers.backend}: taking in {size_bytes:,} bytes")
        tree = os.path.join(self.servers.directory, "import", f"tree-{size_bytes}")
        await asyncio.to_thread(_fill, tree, size_bytes)
        data, job_id = await self._client.request(
            "POST",
            "/containers",
            body={
                "project_id": self.servers.project_id,
                "name": self._name(),
                "source_path": tree,
                "server_id": self.servers.members[0].server_id,
            },
        )
        await self._ended(job_id)
        return str(data["id"])

    async def copy(self, source: str, server: int) -> tuple[float, Json]:
        """Copies a container to the server with this index: the seconds from the job's start to
        its end, and its result."""
        _, job_id = await self._client.request(
            "POST",
            f"/containers/{source}/copy",
            body={
                "target_project_id": self.servers.project_id,
                "target_server_id": self.servers.members[server].server_id,
                "name": self._name(),
            },
        )
        job = await self._ended(job_id)
        began, ended = (
            datetime.fromisoformat(str(job[at])) for at in ("started_at", "finished_at")
        )
        return (ended - began).total_seconds(), cast("Json", job["result"])

    async def dataset(self, container: str) -> str:
        """The storage's own name of the container's live dataset."""
        return str((await self._client.get(f"/containers/{container}/storage"))["dataset"])

    async def _ended(self, job_id: str | None) -> Json:
        seen = [job async for job in self._client.watch(job_id or "")]
        if seen[-1].get("state") != "succeeded":
            raise DemoFailed(f"a job ended {seen[-1].get('state')}: {seen[-1]['error']}")
        return seen[-1]

    def _name(self) -> str:
        self._names += 1
        return f"bench-{self._names}"


def _fill(tree: str, size_bytes: int) -> None:
    """A tree of FILES files of random bytes, which neither zstd nor a hole makes any smaller."""
    os.makedirs(os.path.join(tree, "etc"))
    for number in range(FILES):
        left = size_bytes // FILES
        with open(os.path.join(tree, f"data-{number}.bin"), "wb") as file:
            while left:
                left -= file.write(os.urandom(min(left, BLOCK_BYTES)))
