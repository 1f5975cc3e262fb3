"""The place where is measured: namespaces of this process, servers in them, and what they do."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from benchmarks.numbers import GB
from daemon.client import Client, Json
from daemon.demo.servers import DemoFailed, Servers
from transfer.storage import private_zfs
from transfer.storage.private_zfs import PrivateZfs

_CLONE_NEWNET = 0x40000000
STORAGE_ROLE = "zfs-fuse"

# Nobody but us asks these servers, and they are to be busy with nothing else.
_SETTINGS = {
    "HOODY_LIMITS__JOBS_PER_USER": "5000",
    "HOODY_LIMITS__REQUESTS_PER_MINUTE": "1000000",
    "HOODY_SERVER__MAX_CONTAINERS": "5000",
    "HOODY_TIMING__SWEEP_SECONDS": "3600",
}


def said(stages: Mapping[str, float]) -> str:
    """The stages of a job that took any time."""
    return ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in stages.items() if seconds)


@dataclass(frozen=True, slots=True)
class Done:
    """What a job took, from the request to its end, and what it says of itself."""

    container: str
    seconds: float
    result: Json

    @property
    def stages(self) -> dict[str, float]:
        """Seconds by stage, as the job counts them; what is left waited or was written down."""
        return cast("dict[str, float]", self.result["seconds"])

    @property
    def logical_bytes(self) -> int:
        """Bytes before compression."""
        return cast("int", self.result["bytes_logical"])


class _Pools(PrivateZfs):
    """Makes pools of another size than the demo's."""

    def __init__(self, size_bytes: int, cache_mib: int | None) -> None:
        super().__init__(cache_mib=cache_mib)
        self._size_bytes = size_bytes

    def create_pool(self, pool: str, file: str, size_bytes: int, *options: str) -> None:
        super().create_pool(pool, file, max(size_bytes, self._size_bytes), *options)


class World:
    """The running servers; the first one has the containers that are copied."""

    def __init__(self, servers: Servers, client: Client) -> None:
        self.servers = servers
        self.client = client
        self._names = 0

    @property
    def daemons(self) -> list[int]:
        """The processes that all others of the servers come from."""
        return [member.process.pid for member in self.servers.members if member.process]

    @property
    def roots(self) -> list[int]:
        """The daemons, and that of the storage."""
        zfs = self.servers.zfs
        return [*self.daemons, zfs.pid] if zfs and zfs.pid else self.daemons

    async def create(self, tree: str | None = None) -> str:
        """A container on the first server, of a tree below `import`, or of an empty one."""
        if tree is None:
            tree = os.path.join(self.imports, "empty")
            os.makedirs(os.path.join(tree, "etc"), exist_ok=True)
        done = await self.ask(
            "/containers",
            {
                "project_id": self.servers.project_id,
                "name": self._name(),
                "source_path": tree,
                "server_id": self.servers.members[0].server_id,
            },
        )
        return done.container

    async def copy(self, source: str, server: int, strategy: str = "auto") -> Done:
        """Copies a container to the server with this index."""
        body = {
            "target_project_id": self.servers.project_id,
            "target_server_id": self.servers.members[server].server_id,
            "name": self._name(),
        }
        return await self.ask(f"/containers/{source}/copy", body, strategy=strategy)

    async def sync(self, copy: str) -> Done:
        """Brings a copy up to date."""
        return await self.ask(f"/containers/{copy}/sync", {})

    async def rootfs(self, container: str) -> str:
        """Where the container's live tree is."""
        return str((await self.storage(container))["rootfs"])

    async def storage(self, container: str) -> Json:
        """What administrators see of the container's storage."""
        return await self.client.get(f"/containers/{container}/storage")

    async def ask(self, path: str, body: Json, **query: str) -> Done:
        """Does a POST that starts a job, and waits for its end. Raises DemoFailed."""
        asked = time.time()
        data, job_id = await self.client.request("POST", path, query=query, body=body)
        seen = [job async for job in self.client.watch(job_id or "")]
        job = seen[-1]
        if job.get("state") != "succeeded":
            raise DemoFailed(f"a job ended {job.get('state')}: {job['error']}")
        seconds = datetime.fromisoformat(str(job["finished_at"])).timestamp() - asked
        return Done(str(data.get("id", "")), seconds, cast("Json", job["result"] or {}))

    @property
    def imports(self) -> str:
        """The directory that containers can be made from."""
        return os.path.join(self.servers.directory, "import")

    def _name(self) -> str:
        self._names += 1
        return f"bench-{self._names}"


def why_not() -> str | None:
    """None where the benchmarks can run, else the reason why not."""
    return private_zfs.available()


def enter() -> None:
    """Moves this process into namespaces of its own: a private zfs-fuse's, and a network that is
    a loopback device alone, so that its counters count what is measured and nothing else."""
    os.environ.update(_SETTINGS)
    private_zfs.enter_namespace()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        raise DemoFailed(f"no network of our own: {os.strerror(ctypes.get_errno())}")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def wire_bytes() -> int:
    """What the loopback device has carried, with all headers."""
    with open("/proc/thread-self/net/dev", encoding="ascii") as lines:
        for line in lines:
            name, _, counters = line.partition(":")
            if name.strip() == "lo":
                return int(counters.split()[8])
    raise DemoFailed("no loopback device")


@contextlib.contextmanager
def scratch() -> Iterator[str]:
    """A directory on the disk that is gone at the end."""
    with contextlib.ExitStack() as stack:
        directory = tempfile.mkdtemp(prefix="hoody-bench-")
        stack.callback(shutil.rmtree, directory)
        yield directory


@contextlib.asynccontextmanager
async def running(
    backend: str, directory: str, pool_bytes: int = 8 * GB, cache_mib: int | None = None
) -> AsyncIterator[World]:
    """Two servers in a directory that is there; with `zfs` each has a pool of this size, and
    zfs-fuse remembers so much of them where its own limit will not do."""
    os.makedirs(os.path.join(directory, "import"))
    with contextlib.ExitStack() as stack:
        zfs = stack.enter_context(_Pools(pool_bytes, cache_mib)) if backend == "zfs" else None
        servers = Servers(directory, backend, zfs)
        stack.callback(servers.stop)
        await servers.start()
        async with Client(servers.members[0].url, servers.token) as client:
            yield World(servers, client)


async def run(*argv: str) -> str:
    """Runs a program to its end; what it says. Raises DemoFailed."""
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    said, complaint = await process.communicate()
    if process.returncode != 0:
        raise DemoFailed(f"{' '.join(argv)}: {complaint.decode(errors='replace').strip()}")
    return said.decode(errors="replace")
