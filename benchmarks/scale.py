"""Scale: a thousand containers with ten snapshots each, in the catalogue and on one pool."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp
from sqlalchemy import func, select

from benchmarks import ceilings, counting, planting
from benchmarks.numbers import percentile, spread
from benchmarks.options import Options
from benchmarks.results import Cell, Part, Plot, Series, Table
from benchmarks.watch import standing_still
from benchmarks.world import World, run, running, scratch
from daemon.demo.servers import DemoFailed
from daemon.model import JobState, JobType
from daemon.store.database import Database
from daemon.store.schema import ACTIVE, jobs

COPIES_OF_ONE = 100  # so many containers have one source
ASKED = 100  # requests of each kind
POSTS_AT_ONCE = 8
SYNC_SECONDS_MAX = 20.0
POLL_SECONDS = 0.5
BARE_SECONDS = 2.0
PLANNED = 5
SPARE_MOUNTS = 5
# By itself zfs-fuse remembers but a part of what is known of ten thousand snapshots: at each look
# it would read it from the disk again, and unpack it.
CACHE_MIB = 2048
IDLE, BUSY = "idle", "while the syncs run"


@dataclass
class Scale:
    """What was found."""

    containers: int = 0
    snapshots: int = 0
    cores: int = 0
    zfs_per_second: float = 0.0
    healthz: list[float] = field(default_factory=list)
    latencies: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    plan_seconds: list[float] = field(default_factory=list)
    copy_seconds: list[float] = field(default_factory=list)
    look_seconds: float = 0.0
    queued_seconds: float = 0.0
    ended: int = 0
    ended_seconds: float = 0.0


async def measure(options: Options) -> Part:
    """The whole part."""
    print("scale: zfs processes of each job", flush=True)
    counts = await counting.count()
    found = Scale(snapshots=options.snapshots, cores=os.cpu_count() or 1)
    with scratch() as directory:
        async with (
            running("zfs", os.path.join(directory, "servers"), cache_mib=CACHE_MIB) as world,
            planting.catalogue(world) as db,
        ):
            await _one_world(world, db, found, options)
    return _part(found, counts)


async def _one_world(world: World, db: Database, found: Scale, options: Options) -> None:
    wanted = await _plant(world, db, options)
    await _bare(world, found)
    print("scale: the API, idle", flush=True)
    found.latencies[IDLE] = await _latencies(world, wanted)
    for copy in wanted[:: max(1, len(wanted) // PLANNED)][:PLANNED]:
        done = await world.copy(copy, 1)
        found.plan_seconds.append(done.stages["plan"])
        found.copy_seconds.append(done.seconds)
    print(f"scale: {len(wanted)} syncs", flush=True)
    await _syncs(world, db, wanted, found)


async def _plant(world: World, db: Database, options: Options) -> list[str]:
    print(f"scale: making {options.containers} containers", flush=True)
    sources = [await world.create() for _ in range(max(2, options.containers // COPIES_OF_ONE))]
    copies = [(await world.copy(source, 0)).container for source in sources]
    count = options.containers - len(sources) - PLANNED - SPARE_MOUNTS
    with standing_still(world.daemons, aside=["zfs"]):
        wanted = await planting.plant(world, db, copies, max(count, len(copies)), options.snapshots)
    await planting.all_mounted(world, db)
    return wanted


async def _bare(world: World, found: Scale) -> None:
    """How many `zfs` processes a second there can be, and what one look at all of it takes."""
    root = world.servers.members[0].storage_root
    ended = 0
    deadline = time.perf_counter() + BARE_SECONDS

    async def ask() -> None:
        nonlocal ended
        while time.perf_counter() < deadline:
            await run("zfs", "get", "-Hp", "-o", "value", "guid", root)
            ended += 1

    await asyncio.gather(*(ask() for _ in range(found.cores)))
    found.zfs_per_second = ended / BARE_SECONDS
    began = time.perf_counter()
    await run("zfs", "get", "-Hpr", "-o", "name,property,value", "guid,createtxg,origin", root)
    found.look_seconds = time.perf_counter() - began
    async with aiohttp.ClientSession() as session:
        for _ in range(ASKED):
            began = time.perf_counter()
            async with session.get(f"{world.servers.members[0].url}/healthz") as answer:
                await answer.read()
            found.healthz.append(time.perf_counter() - began)


async def _latencies(world: World, wanted: Sequence[str]) -> dict[str, list[float]]:
    """Seconds of requests of each kind, one after the other."""
    found: dict[str, list[float]] = {}
    for number in range(ASKED):
        one = wanted[number % len(wanted)]
        for kind, path, query in (
            ("100 containers", "/containers", {"limit": "100"}),
            ("one container", f"/containers/{one}", {}),
            ("its snapshots", f"/containers/{one}/snapshots", {}),
            ("100 jobs", "/jobs", {"limit": "100"}),
        ):
            began = time.perf_counter()
            await world.client.get(path, **query)
            found.setdefault(kind, []).append(time.perf_counter() - began)
    return found


async def _syncs(world: World, db: Database, wanted: Sequence[str], found: Scale) -> None:
    """Queues a sync of each, asks other things meanwhile, and sees how many end in how long from
    when the last was queued."""
    slots = asyncio.Semaphore(POSTS_AT_ONCE)

    async def post(container: str) -> None:
        async with slots:
            await world.client.request("POST", f"/containers/{container}/sync", body={})

    began = time.perf_counter()
    await asyncio.gather(*(post(container) for container in wanted))
    found.containers = len(wanted)
    found.queued_seconds = time.perf_counter() - began
    left = await _left(db)
    began = time.perf_counter()
    asking = asyncio.create_task(_latencies(world, wanted))
    while (now_left := await _left(db)) and time.perf_counter() - began < SYNC_SECONDS_MAX:
        await asyncio.sleep(POLL_SECONDS)
    found.ended, found.ended_seconds = left - now_left, time.perf_counter() - began
    found.latencies[BUSY] = await asking
    await _all_well(db)


async def _left(db: Database) -> int:
    wanted = select(func.count()).select_from(jobs)
    async with db.read() as tx:
        count = await tx.execute(
            wanted.where(jobs.c.type == JobType.SYNC, jobs.c.state.in_(ACTIVE))
        )
        return int(count.scalar_one())


async def _all_well(db: Database) -> None:
    """Raises DemoFailed where a sync that has ended did not succeed, or did more than nothing."""
    ended = select(jobs.c.state, jobs.c.result, jobs.c.error).where(
        jobs.c.type == JobType.SYNC, jobs.c.state.not_in(ACTIVE)
    )
    async with db.read() as tx:
        rows = (await tx.execute(ended)).all()
    for state, result, error in rows:
        if state is not JobState.SUCCEEDED:
            raise DemoFailed(f"a sync without a change ended {state}: {error}")
        if result["strategy"] != "unchanged" or result["downtime_seconds"]:
            raise DemoFailed(f"a sync without a change did something: {result}")


def _part(found: Scale, counts: dict[str, Counter[str]]) -> Part:
    processes = counts[counting.NO_CHANGE].total()
    most = found.zfs_per_second / processes
    rate = found.ended / found.ended_seconds if found.ended_seconds else 0.0
    rows = [
        ("`zfs` processes a second", found.zfs_per_second, f"`zfs get`, {found.cores} at once"),
        ("syncs without a change a second", most, f"so many, if each is but {processes} of those"),
        ("GET /healthz, median, ms", spread(found.healthz).median * 1000, "no catalogue, no token"),
        ("`zfs get -r` of all there is, s", found.look_seconds, "what the collector looks at"),
    ]
    part = Part("scale", "Scale", ceilings.table(rows))
    part.tables = [
        _sizes(found, rate, most),
        _latency_table(found),
        _count_table(counts),
    ]
    part.plots = [_latency_plot(found), _count_plot(counts)]
    there = counts[counting.NO_CHANGE_THERE]
    part.facts = {
        "no_change_zfs": max(processes, there.total()),
        "syncs_per_second": rate,
        "plan_seconds": spread(found.plan_seconds).median,
    }
    part.profiles["no_change_zfs"] = f"To another server: {_said(there)}."
    part.notes.append(
        "With their sources, and the copies on the other server that planning is measured with,"
        " there are a thousand containers, but for a few: zfs-fuse has at most 1,000 mounts."
    )
    part.notes.append(
        f"zfs-fuse has a cache of {CACHE_MIB} MiB here. Its own is less than what a look at all"
        " there is reads."
    )
    part.notes.append(
        "Most containers are planted: clones, snapshots and rows after the model of some that were"
        " made through the API."
    )
    return part


def _sizes(found: Scale, rate: float, most: float) -> Table:
    plan, copy = spread(found.plan_seconds), spread(found.copy_seconds)
    rows: list[list[Cell]] = [
        ["containers that are copies, all on one server", found.containers, "", ""],
        ["snapshots of each", found.snapshots, "", ""],
        ["planning of a copy to the other server, s", plan.median, plan.low, plan.high],
        ["that copy, s", copy.median, copy.low, copy.high],
        ["syncs queued a second", found.containers / found.queued_seconds, "", ""],
        ["syncs without a change, ended a second", rate, "", ""],
        ["as part of the ceiling", rate / most if most else 0.0, "", ""],
    ]
    note = f"{found.ended} syncs ended in {found.ended_seconds:.1f} s after the last was queued."
    return Table("What was reached", ["", "", "quartile", "quartile"], rows, note)


def _latency_table(found: Scale) -> Table:
    rows: list[list[Cell]] = []
    for when, kinds in found.latencies.items():
        for kind, seconds in kinds.items():
            figures = [percentile(seconds, percent) * 1000 for percent in (50, 95, 99)]
            rows.append([f"{kind}, {when}", *figures, max(seconds) * 1000])
    columns = ["GET of", "50 %, ms", "95 %, ms", "99 %, ms", "slowest, ms"]
    return Table("API latency", columns, rows, f"{ASKED} requests of each, one after the other.")


def _count_table(counts: dict[str, Counter[str]]) -> Table:
    rows: list[list[Cell]] = [
        [operation, verbs.total(), _said(verbs)] for operation, verbs in counts.items()
    ]
    note = "Both servers' together, without the keeper's, which looks at its own pace."
    return Table("`zfs` processes of a job", ["", "processes", "verbs"], rows, note)


def _said(verbs: Counter[str]) -> str:
    return ", ".join(f"{verb} {count}" for verb, count in verbs.most_common())


def _latency_plot(found: Scale) -> Plot:
    series = [
        Series(when, list(kinds), [percentile(seconds, 99) * 1000 for seconds in kinds.values()])
        for when, kinds in found.latencies.items()
    ]
    return Plot("latency", "API latency", "GET of", "99th percentile, ms", series)


def _count_plot(counts: dict[str, Counter[str]]) -> Plot:
    totals = [float(verbs.total()) for verbs in counts.values()]
    series = [Series("processes", [name.replace(", ", ",\n") for name in counts], totals)]
    return Plot("processes", "zfs processes of a job", "", "processes", series)
