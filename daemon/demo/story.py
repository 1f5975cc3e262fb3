"""The demo's story: take in, copy, change, sync; each figure beside what it must reach."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar, cast

from rich.console import Console
from rich.table import Table

from daemon.client import Client, ClientError, Json
from daemon.demo import trees
from daemon.demo.servers import DemoFailed, Servers
from daemon.errors import DaemonError
from transfer.errors import TransferError
from transfer.storage import private_zfs

SECOND_COPY_WIRE_BYTES = 64 << 10
SYNC_WIRE_SLACK_BYTES = 128 << 10
SYNC_WIRE_FACTOR = 1.5
MTIME_NS = {"dir": 1, "zfs": 1_000_000_000}  # zfs-fuse keeps whole seconds


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Row:
    """One operation of the table; `miss` says what its figure should have been."""

    operation: str
    strategy: str
    logical_bytes: int
    wire_bytes: int
    seconds: float
    downtime_seconds: float
    miss: str | None = None


@dataclass
class Story:
    """The demo as it goes on."""

    servers: Servers
    client: Client
    console: Console
    rows: list[Row] = field(default_factory=list)
    misses: list[str] = field(default_factory=list)

    async def tell(self) -> None:
        """All of it; what is not as it must be is in `misses` afterwards."""
        tree = os.path.join(self.servers.directory, "import", "tree")
        self.console.print("Gathering a tree to copy …")
        count = await _aside(trees.gather, tree)
        self.console.print(f"A tree of {count:,} files: this Python's library and packages.")
        source = await self._create(tree)
        near = await self._copy("copy, same server", source, 0, "near", strategy="clone")
        far = await self._copy("copy, other server", source, 1, "far", strategy=None)
        await self._copy("second copy there", source, 1, "far-2", wire_max=SECOND_COPY_WIRE_BYTES)
        weight = await asyncio.to_thread(trees.change, await self._rootfs(source))
        wire_max = int(weight * SYNC_WIRE_FACTOR) + SYNC_WIRE_SLACK_BYTES
        await self._sync("sync, same server", near)
        await self._sync("sync, other server", far, wire_max=wire_max)
        await self._sync("sync, unchanged source", far, strategy="unchanged")
        for name, copy in (("same server", near), ("other server", far)):
            await self._compare(name, source, copy)

    async def _create(self, tree: str) -> str:
        body = {
            "project_id": self.servers.project_id,
            "name": "source",
            "source_path": tree,
            "server_id": self.servers.members[0].server_id,
        }
        began = time.monotonic()
        data, job_id = await self.client.request("POST", "/containers", body=body)
        job = await self._ended(job_id)
        progress = cast("Json", job["progress"])
        size = int(cast("int", progress.get("bytes_done", 0)))
        self._done(Row("take in", "", size, 0, time.monotonic() - began, 0.0))
        return str(data["id"])

    async def _copy(
        self,
        operation: str,
        source: str,
        server: int,
        name: str,
        *,
        strategy: str | None = None,
        wire_max: int | None = None,
    ) -> str:
        body = {
            "target_project_id": self.servers.project_id,
            "target_server_id": self.servers.members[server].server_id,
            "name": name,
        }
        data, job_id = await self.client.request("POST", f"/containers/{source}/copy", body=body)
        self._note(operation, await self._ended(job_id), strategy, wire_max)
        return str(data["id"])

    async def _sync(
        self,
        operation: str,
        copy: str,
        *,
        strategy: str | None = None,
        wire_max: int | None = None,
    ) -> None:
        _, job_id = await self.client.request("POST", f"/containers/{copy}/sync")
        self._note(operation, await self._ended(job_id), strategy, wire_max)

    async def _ended(self, job_id: str | None) -> Json:
        seen = [job async for job in self.client.watch(job_id or "")]
        job = seen[-1]
        if job.get("state") != "succeeded":
            raise DemoFailed(f"the {job.get('type')} job ended {job.get('state')}: {job['error']}")
        return job

    def _note(self, operation: str, job: Json, strategy: str | None, wire_max: int | None) -> None:
        result = cast("dict[str, float]", job["result"])
        seconds = sum(cast("dict[str, float]", result["seconds"]).values())
        used, wire = str(result["strategy"]), int(result["bytes_wire"])
        miss = None
        if strategy is not None and used != strategy:
            miss = f"the strategy should be {strategy}"
        if wire_max is not None and wire > wire_max:
            miss = f"at most {wire_max:,} bytes on the wire"
        if miss is not None:
            self.misses.append(f"{operation}: {miss}")
        logical = int(result["bytes_logical"])
        self._done(Row(operation, used, logical, wire, seconds, result["downtime_seconds"], miss))

    def _done(self, row: Row) -> None:
        """Takes the row into the table, and says so at once: the table comes at the end."""
        self.rows.append(row)
        self.console.print(f"  {row.operation}: {row.seconds:.1f} s")

    async def _rootfs(self, container: str) -> str:
        return str((await self.client.get(f"/containers/{container}/storage"))["rootfs"])

    async def _compare(self, name: str, source: str, copy: str) -> None:
        one, other = await self._rootfs(source), await self._rootfs(copy)
        mtime_ns = MTIME_NS[self.servers.backend]
        found = await _aside(trees.differences, one, other, mtime_ns)
        if found:
            self.misses.append(f"{name}: {len(found)} paths differ, the first is {found[0]}")
        verdict = f"[red]{len(found)} paths differ" if found else "[green]trees equal"
        self.console.print(f"source and its copy on the {name}: {verdict}")

    def show(self) -> None:
        """The table, and what missed."""
        table = Table(title=f"Two servers on this machine, backend {self.servers.backend}")
        for title in ("operation", "strategy"):
            table.add_column(title)
        for title in ("logical bytes", "on the wire", "seconds", "downtime"):
            table.add_column(title, justify="right")
        for row in self.rows:
            table.add_row(
                row.operation,
                row.strategy,
                f"{row.logical_bytes:,}",
                f"{row.wire_bytes:,}",
                f"{row.seconds:.2f}",
                f"{row.downtime_seconds:.3f}",
                style="red" if row.miss else None,
            )
        self.console.print(table)
        for miss in self.misses:
            self.console.print(f"[red]missed:[/] {miss}")


def run(backend: str, keep: bool) -> int:
    """Tells the story; 0 when every figure was reached, 1 when one was missed or it failed."""
    console = Console(width=None if os.isatty(1) else 110)
    if backend == "zfs" and (why := private_zfs.available()):
        console.print(f"no zfs here: {why}")
        return 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    zfs = None
    if backend == "zfs":
        private_zfs.enter_namespace()
        zfs = private_zfs.PrivateZfs(outlives=keep)
    directory = tempfile.mkdtemp(prefix="hoody-demo-")
    servers = Servers(directory, backend, zfs)
    done = False
    try:
        if zfs is not None:
            zfs.start()
        missed = asyncio.run(_tell(servers, console))
        done = True
        return 1 if missed else 0
    except (DemoFailed, ClientError, DaemonError, TransferError) as error:
        console.print(f"[red]the demo failed:[/] {error}", highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("interrupted")
        return 130
    finally:
        if keep and done:
            _say_what_runs(servers, console)
        else:
            _clear(servers, directory)


async def _tell(servers: Servers, console: Console) -> bool:
    console.print("Starting two servers …")
    await servers.start()
    async with Client(servers.members[0].url, servers.token) as client:
        story = Story(servers, client, console)
        try:
            await story.tell()
        finally:
            story.show()
        return bool(story.misses)


async def _aside(work: Callable[..., T], *arguments: object) -> T:
    """Long work on trees, in a thread. A thread cannot be ended, and the loop waits for it when
    it closes; so the work is told to stop when nobody waits for it any more."""
    stop = threading.Event()
    try:
        return await asyncio.to_thread(work, *arguments, stop)
    finally:
        stop.set()


def _clear(servers: Servers, directory: str) -> None:
    """Nothing stays: not after a failure, and not after Ctrl-C, also when pressed twice."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    servers.stop()
    if servers.zfs is not None:
        servers.zfs.stop()
    shutil.rmtree(directory)


def _say_what_runs(servers: Servers, console: Console) -> None:
    processes = [member.process.pid for member in servers.members if member.process]
    if servers.zfs is not None and servers.zfs.pid is not None:
        processes.append(servers.zfs.pid)
    pids = " ".join(str(pid) for pid in processes)
    for member in servers.members:
        console.print(f"{member.name}  {member.url}  server {member.server_id}")
    console.print(f"token  {servers.token}", soft_wrap=True)
    console.print(f"to stop:  kill {pids} && rm -r {servers.directory}", soft_wrap=True)
