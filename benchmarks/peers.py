"""The peers: same machine, same run, same data, in turns whose order changes each round."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks import ceilings, data, sshd, tools
from benchmarks.numbers import GB, MIB, Spread, spread
from benchmarks.options import Options
from benchmarks.results import Cell, Part, Plot, Series, Table
from benchmarks.tools import Hoody, Pipe, Place, Rsync, Syncoid, Tool
from benchmarks.watch import cpu_seconds, since, watching
from benchmarks.world import STORAGE_ROLE, running, scratch, wire_bytes

CHANGED_SHARE = 0.01
FULL, INCREMENT, NO_CHANGE = "full copy", "increment of 1 %", "no change"
OPERATIONS = (FULL, INCREMENT, NO_CHANGE)
POOL_COPIES = 60  # of a tree: all full copies of all tools and kinds, and their increments


@dataclass(frozen=True, slots=True)
class Sample:
    """What one operation took, on both sides together."""

    seconds: float
    cpu_seconds: float
    wire_bytes: int
    memory_bytes: int
    storage_seconds: float


@dataclass
class Found:
    """The samples by backend, kind of data, tool and operation; and by the first two, the size of
    the data in MiB, and how many of them the bare storage moves in a second, and what
    hoody's newest full copy says of its seconds."""

    samples: dict[tuple[str, str, str, str], list[Sample]] = field(default_factory=dict)
    bare: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    stages: dict[str, dict[str, str]] = field(default_factory=dict)

    def spread(self, key: tuple[str, str, str, str], what: str) -> Spread:
        """The median and quartiles of one figure of the samples."""
        return spread([getattr(sample, what) for sample in self.samples[key]])


async def measure(options: Options) -> Part:
    """The whole part."""
    found = Found()
    notes: list[str] = []
    pool_bytes = max(8 * GB, POOL_COPIES * options.tree_bytes)
    sizes = {"zfs": options.tree_bytes, "dir": options.dir_tree_bytes}
    for backend, tree_bytes in sizes.items():
        with scratch() as directory:
            async with running(backend, directory, pool_bytes) as world:
                with sshd.running(os.path.join(directory, "sshd")) as door:
                    hoody = Hoody(world)
                    found.stages[backend] = hoody.stages
                    compared: list[Tool] = [hoody]
                    if backend == "zfs":
                        syncoid = Syncoid(world, door)
                        compared += [syncoid, Pipe(world, door, like=syncoid)]
                        notes.append(_bzfs(await tools.bzfs(world, directory)))
                    else:
                        compared.append(Rsync(directory, door))
                    for kind in data.KINDS:
                        place = await _place(world.imports, kind, tree_bytes)
                        size_mib = place.size_bytes / MIB
                        seconds = await _bare(backend, place, directory, compared)
                        found.bare[backend, kind] = (size_mib, size_mib / seconds)
                        await _rounds(backend, place, compared, options, found)
    return _part(notes, found)


async def _place(imports: str, kind: str, tree_bytes: int) -> Place:
    tree = os.path.join(imports, kind)
    size_bytes = await asyncio.to_thread(data.make_tree, tree, kind, tree_bytes)
    return Place(kind, tree, size_bytes, await asyncio.to_thread(data.files_of, tree))


async def _bare(backend: str, place: Place, directory: str, compared: Sequence[Tool]) -> float:
    """Makes the sources; the seconds in which the bare storage moves this kind of data."""
    for tool in compared:
        print(f"{backend}: {place.kind}, {tool.name}", flush=True)
        await tool.prepare(place)
    if backend == "dir":
        target = os.path.join(directory, "ceiling")
        return await asyncio.to_thread(ceilings.file_copy, place.tree, target)
    pipe = next(tool for tool in compared if isinstance(tool, Pipe))
    await ceilings.run("zfs", "snapshot", f"{pipe.source}@bare")
    return await ceilings.send_and_receive(f"{pipe.source}@bare", f"{pipe.target}-bare")


async def _rounds(
    backend: str, place: Place, compared: Sequence[Tool], options: Options, found: Found
) -> None:
    for number in range(options.rounds):
        turn = number % len(compared)
        for tool in (*compared[turn:], *compared[:turn]):
            directory = await tool.begin()
            await asyncio.to_thread(data.nudge, directory, number)
            for operation in OPERATIONS:
                if operation == INCREMENT:
                    change = (place.files, place.kind, CHANGED_SHARE, number + 1)
                    await asyncio.to_thread(data.change, directory, *change)
                sample = await _sample(tool, operation)
                key = (backend, place.kind, tool.name, operation)
                found.samples.setdefault(key, []).append(sample)


async def _sample(tool: Tool, operation: str) -> Sample:
    before, carried = cpu_seconds(tool.roots), wire_bytes()
    async with watching(lambda: tool.roots, aside=[STORAGE_ROLE]) as usage:
        done = await (tool.full() if operation == FULL else tool.more())
    used = since(before, cpu_seconds(tool.roots))
    return Sample(
        done.seconds,
        done.cpu_seconds + sum(used.values()),
        wire_bytes() - carried,
        usage.peak_bytes,
        used.get(STORAGE_ROLE, 0.0),
    )


def _bzfs(said: str) -> str:
    if not said:
        return "bzfs was tried between the two pools and runs; it is not compared yet."
    return f"bzfs was tried between the two pools and does not run on zfs-fuse: {said}"


def _part(notes: list[str], found: Found) -> Part:
    bare = {"zfs": "`zfs send` into `zfs receive` through a pipe", "dir": "a plain copy"}
    rows = [
        (f"{backend}, {kind}: {bare[backend]}, MiB/s", mib_s, f"{size_mib:.0f} MiB")
        for (backend, kind), (size_mib, mib_s) in found.bare.items()
    ]
    part = Part("peers", "Peers", ceilings.table(rows), notes=notes)
    part.tables = [
        _table(found, backend, operation) for backend in ("zfs", "dir") for operation in OPERATIONS
    ]
    part.tables.insert(0, _fractions(found))
    part.plots = [_plot(found, backend, FULL) for backend in ("zfs", "dir")]
    part.plots += [_plot(found, "zfs", operation) for operation in (INCREMENT, NO_CHANGE)]
    for kind in data.KINDS:
        ours = found.spread(("zfs", kind, "hoody", FULL), "seconds").median
        for tool in ("syncoid", "pipe"):
            theirs = found.spread(("zfs", kind, tool, FULL), "seconds").median
            fact = f"full_{kind}_against_{tool}"
            part.facts[fact] = theirs / ours
            part.profiles[fact] = _profile(found, kind, tool)
        theirs = found.spread(("dir", kind, "rsync", FULL), "seconds").median
        part.facts[f"dir_full_{kind}_against_rsync"] = (
            theirs / found.spread(("dir", kind, "hoody", FULL), "seconds").median
        )
    return part


def _profile(found: Found, kind: str, tool: str) -> str:
    said = []
    for name in ("hoody", tool):
        key = ("zfs", kind, name, FULL)
        wall, cpu, storage = (
            found.spread(key, what).median for what in ("seconds", "cpu_seconds", "storage_seconds")
        )
        said.append(
            f"{name}: {wall:.2f} s, in which zfs-fuse used {storage:.2f} CPU seconds and all other"
            f" processes {cpu - storage:.2f}"
        )
    stages = found.stages["zfs"][kind]
    return f"{'; '.join(said)}. Of the newest of hoody's copies, seconds: {stages}."


def _fractions(found: Found) -> Table:
    rows: list[list[Cell]] = []
    for (backend, kind), (size_mib, mib_s) in found.bare.items():
        reached = size_mib / found.spread((backend, kind, "hoody", FULL), "seconds").median
        rows.append([f"{backend}, {kind}", reached, mib_s, reached / mib_s])
    columns = ["hoody, full copy", "MiB/s, all included", "ceiling", "fraction"]
    return Table("What was reached of it", columns, rows)


def _table(found: Found, backend: str, operation: str) -> Table:
    rows: list[list[Cell]] = []
    for at, kind, tool, what in found.samples:
        if (at, what) != (backend, operation):
            continue
        key = (at, kind, tool, what)
        wall = found.spread(key, "seconds")
        ours = found.spread((at, kind, "hoody", what), "seconds").median
        cells = [found.spread(key, name).median for name in ("cpu_seconds", "storage_seconds")]
        wire = found.spread(key, "wire_bytes").median / MIB
        memory = found.spread(key, "memory_bytes").median / MIB
        rows.append([f"{kind}: {tool}", wall.median, wall.low, wall.high, wall.median / ours])
        rows[-1] += [*cells, wire, memory]
    columns = ["", "s", "quartile", "quartile", "of hoody's", "CPU s", "of it zfs-fuse"]
    columns += ["wire, MiB", "peak memory, MiB"]
    rounds = max(len(samples) for samples in found.samples.values())
    return Table(
        f"{backend}: {operation}",
        columns,
        rows,
        f"Medians of {rounds} rounds. CPU is of all processes of both sides. The wire is what the"
        " loopback device carried, headers included. Memory is the most that all processes of"
        " both sides had at once, without zfs-fuse, with what they share counted for each.",
    )


def _plot(found: Found, backend: str, operation: str) -> Plot:
    tools_there = dict.fromkeys(tool for at, _, tool, _ in found.samples if at == backend)
    series = []
    for tool in tools_there:
        spreads = [found.spread((backend, kind, tool, operation), "seconds") for kind in data.KINDS]
        series.append(
            Series(
                tool,
                data.KINDS,
                [one.median for one in spreads],
                [one.low for one in spreads],
                [one.high for one in spreads],
            )
        )
    name = f"{backend}-{operation.replace(' ', '-').replace('%', 'percent')}"
    return Plot(name, f"{backend}: {operation}", "", "seconds, median and quartiles", series)
