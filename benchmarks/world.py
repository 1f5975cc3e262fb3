"""Two daemons on loopback, containers of incompressible bytes, and their copies."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from daemon.client import Client, Json
from daemon.demo.servers import DemoFailed, Servers

LARGE_BYTES = 2_000_000_000
SMALL_BYTES = 20_000_000
FILES = 20
BLOCK_BYTES = 1 << 20
CHANGED_BYTES = 500_000_000


@dataclass(frozen=True, slots=True)
class Copied:
    """A copy's id, the seconds from its job's start to its end, and the job's result."""

    container: str
    seconds: float
    result: Json


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

    async def copy(self, source: str, server: int) -> Copied:
        """Copies a container to the server with this index."""
        data, job_id = await self._client.request(
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
        seconds = (ended - began).total_seconds()
        return Copied(str(data["id"]), seconds, cast("Json", job["result"]))

    async def change(self, container: str) -> None:
        """Writes CHANGED_BYTES of a large container's live tree anew."""
        rootfs = str((await self._storage(container))["rootfs"])
        await asyncio.to_thread(_rewrite, rootfs, CHANGED_BYTES)

    async def sync(self, copy: str) -> Json:
        """Brings a copy up to date; the job's result."""
        _, job_id = await self._client.request("POST", f"/containers/{copy}/sync", body={})
        return cast("Json", (await self._ended(job_id))["result"])

    async def dataset(self, container: str) -> str:
        """The storage's own name of the container's live dataset."""
        return str((await self._storage(container))["dataset"])

    async def _storage(self, container: str) -> Json:
        return await self._client.get(f"/containers/{container}/storage")

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
        _write(tree, number, size_bytes // FILES)


def _rewrite(tree: str, size_bytes: int) -> None:
    """New random bytes in as many whole files as that is."""
    each_bytes = LARGE_BYTES // FILES
    for number in range(size_bytes // each_bytes):
        _write(tree, number, each_bytes)


def _write(tree: str, number: int, size_bytes: int) -> None:
    left = size_bytes
    with open(os.path.join(tree, f"data-{number}.bin"), "wb") as file:
        while left:
            left -= file.write(os.urandom(min(left, BLOCK_BYTES)))
