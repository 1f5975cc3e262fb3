"""Two gigabytes pass from server to server, and are copied on one server, on zfs: no byte of them
through the process that serves the API, and no process grows with what it moves."""

from __future__ import annotations

import asyncio
import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.acceptance.api import ENDED, Api, Json
from tests.acceptance.cluster import Cluster, Daemon, MakeCluster, PlainCluster

pytestmark = pytest.mark.timeout(900)

TOTAL_BYTES = 2 << 30
BLOCK_BYTES = 64 << 20
RSS_BYTES_MAX = 200 << 20
READ_BYTES_MAX = 8 << 20
API_SHARE_MAX = 0.05
SAMPLE_SECONDS = 0.1
SECONDS_BEFORE = 4  # of `zpool iostat`: two lines of heading, and one of the time before
COPY_SECONDS = 600.0
ASK_SECONDS = 5.0  # a wait through the API costs it more CPU than the transfer does


@dataclass
class Watch:
    """Samples the processes of all daemons until it is cancelled."""

    cluster: Cluster
    rounds: int = 0
    peer_links: int = 0
    seen_in_api: set[str] = field(default_factory=set)
    rss_bytes: dict[str, int] = field(default_factory=dict)
    cpu_seconds: dict[tuple[str, int], tuple[float, float]] = field(default_factory=dict)

    async def run(self) -> None:
        while True:
            await asyncio.to_thread(self._sample)
            await asyncio.sleep(SAMPLE_SECONDS)

    def spent(self, *verbs: str) -> list[float]:
        """CPU seconds between the first and the last sample, of each process of some kinds."""
        spans = self.cpu_seconds.items()
        return [last - first for (verb, _pid), (first, last) in spans if verb in verbs]

    def _sample(self) -> None:
        self.rounds += 1
        ports = {daemon.peer_address[1] for daemon in self.cluster.daemons}
        links = _sockets_at(ports)
        for daemon in self.cluster.daemons:
            family = _family(daemon)
            data = {pid for pid, verb in family.items() if verb != "run"}
            of_streams = {one for pid, verb in family.items() if verb == "zfs" for one in _fds(pid)}
            of_streams = {one for one in of_streams if one.startswith("pipe:")}
            self.peer_links += sum(len(links & _fds(pid)) for pid in data)
            self.seen_in_api |= (links | of_streams) & _fds(daemon.pid)
            for pid, verb in family.items():
                self._measure(daemon, pid, verb)

    def _measure(self, daemon: Daemon, pid: int, verb: str) -> None:
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            process = psutil.Process(pid)
            rss_bytes, times = process.memory_info().rss, process.cpu_times()
            name = f"{daemon.name} {verb}"
            self.rss_bytes[name] = max(rss_bytes, self.rss_bytes.get(name, 0))
            spent = times.user + times.system
            first, _ = self.cpu_seconds.get((verb, pid), (spent, spent))
            self.cpu_seconds[verb, pid] = (first, spent)


async def test_two_gigabytes_pass_beside_the_api(zfs_cluster: Cluster) -> None:
    async with zfs_cluster.api() as api:
        source = await api.create(_tree(zfs_cluster, "big", TOTAL_BYTES))
        watch = Watch(zfs_cluster)
        started = await api.start_copy(source, zfs_cluster.daemons[1].server_id)
        watching = asyncio.create_task(watch.run())
        try:
            job = await _done(api, started.job_id)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        assert job["result"]["bytes_wire"] > 0.99 * TOTAL_BYTES
    assert watch.rounds > 20
    assert watch.peer_links > 20, "the samples would have shown a link, had the API had one"
    assert not watch.seen_in_api
    assert max(watch.spent("run")) < API_SHARE_MAX * sum(watch.spent("worker", "exporter"))
    assert {name: size for name, size in watch.rss_bytes.items() if size > RSS_BYTES_MAX} == {}


async def test_a_copy_on_the_same_server_reads_no_data(zfs_cluster: Cluster) -> None:
    async with zfs_cluster.api() as api:
        source = await api.create(_tree(zfs_cluster, "here", TOTAL_BYTES))
        pool = zfs_cluster.daemons[0].storage_root.partition("/")[0]
        argv = ["zpool", "iostat", pool, "1"]
        meter = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
        assert meter.stdout is not None
        try:
            await _lines(meter.stdout, SECONDS_BEFORE)
            began = time.monotonic()
            _copy, job = await api.copy(source)
            lines = await _lines(meter.stdout, int(time.monotonic() - began) + 2)
        finally:
            meter.kill()
            await meter.wait()
        assert job["result"]["bytes_wire"] == 0
        assert sum(_read_bytes(line) for line in lines) < READ_BYTES_MAX


@pytest.fixture(scope="module")
def backend() -> str:
    """What is said here is of zfs."""
    return "zfs"


@pytest.fixture(scope="module")
def cluster_type() -> type[Cluster]:
    """As users have it."""
    return PlainCluster


@pytest.fixture(scope="module")
def zfs_cluster(make_cluster: MakeCluster) -> Cluster:
    """Two servers, with the heartbeats of a real one."""
    return make_cluster(2, {"timing": {"heartbeat_seconds": 5}})


async def _done(api: Api, job_id: str) -> Json:
    """The job once it has ended, and well; it is asked for seldom."""
    async with asyncio.timeout(COPY_SECONDS):
        while (job := await api.job(job_id))["state"] not in ENDED:
            await asyncio.sleep(ASK_SECONDS)
    assert job["state"] == "succeeded", job
    return job


def _tree(cluster: Cluster, name: str, total_bytes: int) -> str:
    """A directory with one file of random bytes, of which no two blocks are alike."""
    directory = cluster.tree(name)
    os.makedirs(directory)
    block = int.from_bytes(os.urandom(BLOCK_BYTES), "little")
    with open(os.path.join(directory, "big"), "wb", buffering=0) as file:
        for _ in range(total_bytes // BLOCK_BYTES):
            mask = int.from_bytes(os.urandom(4096) * (BLOCK_BYTES // 4096), "little")
            file.write((block ^ mask).to_bytes(BLOCK_BYTES, "little"))
    return directory


def _family(daemon: Daemon) -> dict[int, str]:
    """The processes of a daemon by id: run, worker, exporter, keeper, and `zfs` for others."""
    found = {daemon.pid: "run"}
    with suppress(psutil.NoSuchProcess):
        for process in psutil.Process(daemon.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                argv = process.cmdline()
                found[process.pid] = argv[3] if "daemon" in argv else "zfs"
    return found


def _fds(pid: int) -> set[str]:
    """What a process has open: files, `pipe:[…]`, `socket:[…]`."""
    found = set()
    with suppress(FileNotFoundError, ProcessLookupError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with suppress(FileNotFoundError, ProcessLookupError):
                found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
    return found


def _sockets_at(ports: set[int]) -> set[str]:
    """The sockets of this machine with one of these ports at either end."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if ports & {int(end.rpartition(":")[2], 16) for end in fields[1:3]}:
                found.add(f"socket:[{fields[9]}]")
    return found


async def _lines(stream: asyncio.StreamReader, count: int) -> list[str]:
    return [(await stream.readline()).decode() for _ in range(count)]


def _read_bytes(line: str) -> float:
    """What a pool read in the second that a line of `zpool iostat` speaks of."""
    number, unit = re.fullmatch(r"([0-9.]+)([KMGT]?)", line.split()[5]).groups()
    return float(number) * 1024 ** " KMGT".index(unit or " ")
