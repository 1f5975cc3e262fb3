"""How long copies and syncs take, by size: the times, the line through them, and what it means
for the sizes of the guide's Copy Timing table."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

from benchmarks import ceilings, data
from benchmarks.numbers import GB, MIB, Line, fit, percentile
from benchmarks.options import Options
from benchmarks.results import Part, Plot, Series, Table
from benchmarks.watch import Usage, cpu_seconds, since, watching
from benchmarks.world import STORAGE_ROLE, World, running, said, scratch
from daemon.demo.servers import DemoFailed

CHANGED_SHARE = 0.01
POOL_ROOM = 3  # a pool holds the largest sizes together, and their changes
OPERATIONS = (
    "copy, same server",
    "copy, other server",
    "second copy there",
    "sync of 1 %",
    "sync, no change",
)

# The guide's Copy Timing table: GB, and minutes from and to, on the same server and to another.
_GUIDE = ((10, (1, 2), (3, 5)), (50, (3, 5), (10, 15)), (100, (5, 10), (20, 30)))
_GUIDE_SYNC_SECONDS = (10, 180)


@dataclass
class Times:
    """Seconds of each operation by size in GB, on one backend; `rates` are MiB/s of the bytes,
    `stages` what the largest size's jobs say of their seconds."""

    backend: str
    seconds: dict[str, dict[float, float]] = field(default_factory=dict)
    rates: dict[float, float] = field(default_factory=dict)
    downtime_seconds: list[float] = field(default_factory=list)
    stages: dict[str, str] = field(default_factory=dict)

    def note(self, operation: str, size_gb: float, seconds: float) -> None:
        """Keeps one figure."""
        self.seconds.setdefault(operation, {})[size_gb] = seconds

    def line(self, operation: str) -> Line:
        """The line through an operation's times."""
        points = self.seconds[operation]
        return fit(list(points), list(points.values()))


@dataclass
class Watched:
    """The servers while the largest copy ran: answers of /healthz, memory and CPU."""

    answers: list[list[float]] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    cpu: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass
class Source:
    """The container that is copied; it grows from each size to the next. `rootfs` is its live
    tree."""

    container: str
    rootfs: str = ""
    size_bytes: int = 0

    async def grow(self, world: World, size_bytes: int) -> None:
        """Writes what is missing of the size."""
        self.rootfs = await world.rootfs(self.container)
        wanted = (data.INCOMPRESSIBLE, size_bytes, 1, self.size_bytes)
        await asyncio.to_thread(data.write_files, self.rootfs, *wanted)
        self.size_bytes = size_bytes

    def change(self) -> None:
        """Writes some of its bytes anew."""
        files = data.files_of(self.rootfs)
        data.change(self.rootfs, files, data.INCOMPRESSIBLE, CHANGED_SHARE, self.size_bytes)


async def measure(options: Options) -> Part:
    """The whole part."""
    rows: list[ceilings.Ceiling] = []
    with scratch() as directory:
        rows.append(("disk, write, MiB/s", ceilings.disk_write(directory), "256 MiB and fsync"))
    times = [Times("zfs"), Times("dir")]
    watched = Watched()
    for found, wanted in zip(times, (options.sizes_bytes, options.dir_sizes_bytes), strict=True):
        with scratch() as directory:
            sizes = fitting(wanted, shutil.disk_usage(directory).free)
            pool_bytes = max(8 * GB, POOL_ROOM * sum(sizes))
            async with running(found.backend, directory, pool_bytes) as world:
                source = Source(await world.create())
                for size_bytes in sizes:
                    largest = found.backend == "zfs" and size_bytes == sizes[-1]
                    beside = _watched(world, watched) if largest else contextlib.nullcontext()
                    await source.grow(world, size_bytes)
                    await _one_size(world, found, source, beside, options)
                    if size_bytes == sizes[0]:
                        rows += await _bare(world, source.container, size_bytes, directory)
    return _part(rows, times, watched)


def fitting(sizes: list[int], free_bytes: int) -> list[int]:
    """Those sizes, two at least, that the disk has room for, all of them on both servers."""
    count = len(sizes)
    while count > 2 and sum(sizes[:count]) * POOL_ROOM > free_bytes:
        count -= 1
    return sizes[:count]


async def _one_size(
    world: World,
    times: Times,
    grown: Source,
    beside: contextlib.AbstractAsyncContextManager[None],
    options: Options,
) -> None:
    """All operations on the container as it is."""
    size_gb = grown.size_bytes / GB
    source = grown.container
    print(f"{times.backend}: {size_gb:g} GB", flush=True)
    async with beside:
        copied = await world.copy(source, 1, strategy="full")
    if copied.logical_bytes < grown.size_bytes:
        raise DemoFailed(f"only {copied.logical_bytes} bytes were shipped")
    times.note("copy, other server", size_gb, copied.seconds)
    times.rates[size_gb] = copied.logical_bytes / copied.stages["transfer"] / MIB
    times.note("second copy there", size_gb, (await world.copy(source, 1)).seconds)
    repeats = options.repeats if times.backend == "zfs" else 1
    same = [await world.copy(source, 0) for _ in range(repeats)]
    times.note("copy, same server", size_gb, statistics.median(done.seconds for done in same))
    times.stages["copy, same server"] = said(same[-1].stages)
    await asyncio.to_thread(grown.change)
    synced = await world.sync(copied.container)
    times.note("sync of 1 %", size_gb, synced.seconds)
    times.downtime_seconds.append(cast("float", synced.result["downtime_seconds"]))
    idle = [await world.sync(copied.container) for _ in range(options.repeats)]
    times.note("sync, no change", size_gb, statistics.median(done.seconds for done in idle))
    times.stages["sync, no change"] = said(idle[-1].stages)


async def _bare(
    world: World, container: str, size_bytes: int, directory: str
) -> list[ceilings.Ceiling]:
    """What the same work takes without the product."""
    storage = await world.storage(container)
    size = f"{size_bytes / GB:g} GB"
    if world.servers.backend == "dir":
        rootfs, target = str(storage["rootfs"]), os.path.join(directory, "ceiling")
        seconds = await asyncio.to_thread(ceilings.file_copy, rootfs, target)
        return [("dir: a plain copy of the tree, MiB/s", size_bytes / MIB / seconds, size)]
    dataset = str(storage["dataset"])
    target = f"{world.servers.members[1].storage_root}/ceiling"
    beside = f"{world.servers.members[0].storage_root}/ceiling"
    clone = await ceilings.snapshot_and_clone(dataset, beside)
    await ceilings.run("zfs", "snapshot", f"{dataset}@bare")
    seconds = await ceilings.send_and_receive(f"{dataset}@bare", target)
    await ceilings.run("zfs", "destroy", f"{dataset}@bare")
    how = f"{size} through a pipe, nothing between"
    return [
        ("zfs: `zfs send` into `zfs receive`, MiB/s", size_bytes / MIB / seconds, how),
        ("zfs: `zfs snapshot` and `zfs clone`, s", clone, "what a copy on one server is made of"),
    ]


@contextlib.asynccontextmanager
async def _watched(world: World, watched: Watched) -> AsyncIterator[None]:
    """Asks every server's /healthz and looks at all processes while the body runs."""
    before, began = cpu_seconds(world.roots), asyncio.get_running_loop().time()
    async with watching(lambda: world.roots) as usage, _asking(world, watched.answers):
        yield
    watched.usage = usage
    watched.cpu = since(before, cpu_seconds(world.roots))
    watched.seconds = asyncio.get_running_loop().time() - began


@contextlib.asynccontextmanager
async def _asking(world: World, answers: list[list[float]]) -> AsyncIterator[None]:
    children = []
    for member in world.servers.members:
        where = urlsplit(member.url)
        argv = [sys.executable, "-m", "benchmarks.healthz", str(where.hostname), str(where.port)]
        children.append(
            await asyncio.create_subprocess_exec(
                *argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        )
    try:
        yield
    finally:
        for child in children:
            output, _ = await child.communicate(b"")  # closes its input
            answers.append(json.loads(output) if child.returncode == 0 else [])
    if not all(len(seconds) > 1 for seconds in answers):
        raise DemoFailed("a server did not answer /healthz")


def _part(rows: list[ceilings.Ceiling], times: list[Times], watched: Watched) -> Part:
    zfs, plain = times
    bare = {name: value for name, value, _ in rows}
    part = Part("copy", "Copy timing", ceilings.table(rows))
    part.tables = [
        *(_by_size(found) for found in times),
        _fractions(zfs, bare["zfs: `zfs send` into `zfs receive`, MiB/s"], plain, bare),
        *(guide(found) for found in times),
        _servers(watched),
    ]
    part.plots = [_plot(found) for found in times]
    worst = max(percentile(seconds, 99) for seconds in watched.answers)
    largest = max(value for role, value in watched.usage.largest().items() if role != STORAGE_ROLE)
    same = zfs.seconds["copy, same server"].values()
    part.facts = {
        "same_server_seconds_max": max(same),
        "no_change_seconds": max(zfs.seconds["sync, no change"].values()),
        "downtime_seconds": max(zfs.downtime_seconds),
        "healthz_seconds": worst,
        "memory_mib": largest / MIB,
    }
    used = ", ".join(f"{role} {seconds:.1f}" for role, seconds in sorted(watched.cpu.items()))
    busy = f"The largest copy took {watched.seconds:.1f} s; CPU seconds: {used}."
    clone = bare["zfs: `zfs snapshot` and `zfs clone`, s"]
    bound = f"The bare `zfs snapshot` and `zfs clone` take {clone:.3f} s."
    part.profiles = {
        "same_server_seconds_max": f"Seconds: {zfs.stages['copy, same server']}. {bound}",
        "no_change_seconds": f"Seconds: {zfs.stages['sync, no change']}. {bound}",
        "healthz_seconds": busy,
        "memory_mib": busy,
    }
    return part


def _by_size(times: Times) -> Table:
    sizes = list(times.rates)
    rows = []
    for operation in OPERATIONS:
        line = times.line(operation)
        seconds = [times.seconds[operation][size] for size in sizes]
        rows.append([operation, *seconds, line.base, line.slope])
    columns = ["seconds", *(f"{size:g} GB" for size in sizes), "line: s", "line: s per GB"]
    return Table(
        f"{times.backend}: seconds by size",
        columns,
        rows,
        "From the request to the job's end. Incompressible data. Copies to the other server are"
        " taken once; of what is short, the median. The line is that of least squares.",
    )


def _fractions(zfs: Times, pipe_mib: float, plain: Times, bare: dict[str, float]) -> Table:
    copy_mib = bare["dir: a plain copy of the tree, MiB/s"]
    clone = bare["zfs: `zfs snapshot` and `zfs clone`, s"]
    best, worst = max(zfs.rates.values()), max(zfs.seconds["copy, same server"].values())
    rows = [
        ["zfs: bytes to the other server, MiB/s", best, pipe_mib, best / pipe_mib],
        ["zfs: copy on the same server, s", worst, clone, clone / worst],
    ]
    dir_best = max(plain.rates.values())
    rows.append(["dir: bytes to the other server, MiB/s", dir_best, copy_mib, dir_best / copy_mib])
    return Table("What was reached of it", ["", "reached", "ceiling", "fraction"], rows)


def guide(times: Times) -> Table:
    """The guide's sizes: as measured where that was, else by the line."""
    rows = []
    for size_gb, same, other in _GUIDE:
        for operation, minutes in (("copy, same server", same), ("copy, other server", other)):
            measured = times.seconds[operation].get(float(size_gb))
            seconds = times.line(operation).at(size_gb) if measured is None else measured
            low, high = (60 * minute for minute in minutes)
            how = "by the line" if measured is None else "measured"
            rows.append(
                [f"{size_gb} GB: {operation}", f"{low}-{high}", seconds, how, seconds / high]
            )
    low, high = _GUIDE_SYNC_SECONDS
    size_gb = _GUIDE[-1][0]
    seconds = times.line("sync of 1 %").at(size_gb)
    rows.append(
        [f"{size_gb} GB: sync of 1 %", f"{low}-{high}", seconds, "by the line", seconds / high]
    )
    columns = ["", "the guide's, s", "here, s", "", "fraction of its upper bound"]
    return Table(f"{times.backend}: the guide's Copy Timing table", columns, rows)


def _servers(watched: Watched) -> Table:
    largest = watched.usage.largest()
    rows: list[list[str | float]] = [
        [role, largest.get(role, 0) / MIB, watched.cpu.get(role, 0.0)] for role in sorted(largest)
    ]
    answers = []
    for name, seconds in zip(("source", "target"), watched.answers, strict=True):
        middle, worst = statistics.median(seconds) * 1000, percentile(seconds, 99) * 1000
        answers.append(f"{name}: median {middle:.1f} ms, 99th percentile {worst:.1f} ms")
    return Table(
        "zfs: the servers during the largest copy",
        ["processes", "largest one's peak memory, MiB", "CPU seconds of all"],
        rows,
        f"/healthz, asked twenty times a second meanwhile: {'; '.join(answers)}.",
    )


def _plot(times: Times) -> Plot:
    series = [
        Series(operation, list(points), list(points.values()))
        for operation, points in times.seconds.items()
    ]
    title = f"{times.backend}: seconds against size"
    return Plot(f"{times.backend}-by-size", title, "GB", "seconds", series)
