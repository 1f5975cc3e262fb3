"""What is measured of each backend."""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import cast
from urllib.parse import urlsplit

from benchmarks import ceilings
from benchmarks.figures import Figure
from benchmarks.healthz import PER_SECOND
from benchmarks.watch import Usage, watching
from benchmarks.world import CHANGED_BYTES, LARGE_BYTES, World
from daemon.demo.servers import DemoFailed

MIB = 1 << 20
ROUNDS = 7
COPY_RATIO_MAX = 1.25
HEALTHZ_SECONDS_MAX = 0.05
DOWNTIME_SECONDS_MAX = 1.0
MEMORY_BYTES_MAX = 200 * MIB
STORAGE_ROLE = "zfs-fuse"  # no process of ours: its figures are for information
ANSWERS_MIN = 100  # below that, the 99th percentile says nothing


async def same_server(world: World, small: str, large: str) -> list[Figure]:
    """A copy by clone must not grow with the container: the ratio of the medians.

    Both sizes take turns, the order changes each time, and one of each goes before: so what the
    machine does besides meets both alike. The interquartile range of the small one's times, as
    part of their median, is the noise of the very same work; so much is allowed on top.
    """
    world.say(f"zfs: {ROUNDS} same-server copies of each size, taking turns")
    seconds: dict[str, list[float]] = {small: [], large: []}
    for number in range(ROUNDS + 1):
        for container in (small, large) if number % 2 else (large, small):
            copied = await world.copy(container, 0)
            if number:
                seconds[container].append(copied.seconds)
    few, many = statistics.median(seconds[small]), statistics.median(seconds[large])
    quartiles = statistics.quantiles(seconds[small], n=4)
    noise = (quartiles[2] - quartiles[0]) / few
    note = f"medians of {ROUNDS}: {many:.3f} s and {few:.3f} s; noise {noise:.0%} allowed"
    return [
        Figure("zfs: same-server copy, 2 GB to 20 MB", many / few, "", COPY_RATIO_MAX + noise, note)
    ]


async def across(world: World, source: str) -> list[Figure]:
    """One copy of 2 GB to the other server, with both watched; then a sync of it."""
    backend = world.servers.backend
    world.say(f"{backend}: 2 GB to the other server, both watched")
    roots = [member.process.pid for member in world.servers.members if member.process]
    if world.servers.zfs and world.servers.zfs.pid:
        roots.append(world.servers.zfs.pid)
    async with watching(roots) as usage, _asking(world) as answers:
        copied = await world.copy(source, 1)
    result = copied.result
    transfer = cast("dict[str, float]", result["seconds"])["transfer"]
    logical = cast("int", result["bytes_logical"])
    if logical < LARGE_BYTES:
        raise DemoFailed(f"only {logical} bytes were shipped")
    rate = logical / transfer / MIB
    wire = f"{result['bytes_wire']:,} wire"
    note = f"{logical:,} bytes logical, {wire}; whole copy {copied.seconds:.1f} s"
    return [
        Figure(f"{backend}: cross-server transfer", rate, "MiB/s", note=note),
        *_answered(backend, answers),
        *_used(backend, usage),
        await _downtime(world, source, copied.container),
    ]


async def _downtime(world: World, source: str, copy: str) -> Figure:
    """How long the copy is away while it takes what has changed: the switch, not the transfer."""
    backend = world.servers.backend
    world.say(f"{backend}: a sync with {CHANGED_BYTES:,} bytes changed")
    await world.change(source)
    result = await world.sync(copy)
    shipped = cast("int", result["bytes_logical"])
    if shipped < CHANGED_BYTES:
        raise DemoFailed(f"only {shipped} bytes were shipped")
    downtime = cast("float", result["downtime_seconds"])
    if downtime <= 0:
        raise DemoFailed("the copy was not switched")
    limit = DOWNTIME_SECONDS_MAX * 1000 if backend == "zfs" else None
    transfer = cast("dict[str, float]", result["seconds"])["transfer"]
    note = f"{shipped:,} bytes logical, {result['strategy']}; transfer {transfer:.1f} s"
    return Figure(f"{backend}: downtime of a 500 MB sync", downtime * 1000, "ms", limit, note)


def _answered(backend: str, answers: list[list[float]]) -> list[Figure]:
    figures = []
    for number, seconds in enumerate(answers):
        if len(seconds) < ANSWERS_MIN:
            raise DemoFailed(f"only {len(seconds)} answers of /healthz")
        worst = statistics.quantiles(seconds, n=100)[98]
        middle = statistics.median(seconds)
        note = (
            f"{len(seconds)} answers at {PER_SECOND}/s; median {middle * 1000:.1f} ms, "
            f"slowest {max(seconds) * 1000:.1f} ms"
        )
        name = f"{backend}: /healthz p99, {('source', 'target')[number]}"
        figures.append(Figure(name, worst * 1000, "ms", HEALTHZ_SECONDS_MAX * 1000, note))
    return figures


def _used(backend: str, usage: Usage) -> list[Figure]:
    cpu_seconds = usage.cpu_seconds()
    figures = []
    for role, peak_bytes in sorted(usage.peak_bytes().items()):
        note = f"{cpu_seconds[role]:.1f} CPU seconds; {usage.samples} samples"
        name = f"{backend}: peak memory, {role}"
        limit = None if role == STORAGE_ROLE else MEMORY_BYTES_MAX / MIB
        figures.append(Figure(name, peak_bytes / MIB, "MiB", limit, note))
    return figures


@contextlib.asynccontextmanager
async def _asking(world: World) -> AsyncIterator[list[list[float]]]:
    """Asks every server's /healthz while the body runs; the answers' seconds come at its end."""
    answers: list[list[float]] = []
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
        yield answers
    finally:
        for child in children:
            output, _ = await child.communicate(b"")  # closes its input
            if child.returncode == 0:
                answers.append(json.loads(output))
    if len(answers) != len(children):
        raise DemoFailed("a server did not answer /healthz")


async def zfs_ceiling(world: World, source: str) -> list[Figure]:
    """The same bytes through a pipe, by zfs alone."""
    world.say("zfs: the same 2 GB through a pipe")
    target = f"{world.servers.members[1].storage_root}/ceiling"
    seconds = await asyncio.to_thread(
        ceilings.send_and_receive, await world.dataset(source), target
    )
    rate = LARGE_BYTES / seconds / MIB
    return [Figure("zfs: ceiling, zfs send | zfs receive", rate, "MiB/s", note="local pipe")]


async def ssh_ceiling() -> list[Figure]:
    """Bytes from memory to memory, by asyncssh alone."""
    rate = await ceilings.ssh_memory_to_memory() / MIB
    note = "memory to memory, two processes, one channel, the product's settings"
    return [Figure("ceiling, asyncssh", rate, "MiB/s", note=note)]
