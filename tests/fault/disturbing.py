"""What the fault tests share: the middle of a transfer, and what is left when all is over."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import psutil

from daemon import doctor
from daemon.config import load
from daemon.store import datasets, holdings, snapshots
from daemon.store.database import Database
from tests.acceptance import trees
from tests.acceptance.api import Api, Json
from tests.acceptance.cluster import Cluster, Daemon
from tests.acceptance.space import forest_of
from tests.fault.boundaries import FreezingCluster

TREE_BYTES = 26 << 20
ON_THE_WAY_BYTES = 1 << 20  # what a halted stream has sent beyond what a test waits for
POLL_SECONDS = 0.05
PROGRESS_SECONDS = 180.0
CLEAN_SECONDS = 150.0
RESTART_SECONDS = 60.0

Strike = Callable[[Cluster], None]


@contextmanager
def halted(cluster: FreezingCluster, middle_bytes: int = 1) -> Iterator[None]:
    """While the body runs, each stream waits soon after so many bytes, for `in_the_middle`."""
    cluster.halt(middle_bytes + ON_THE_WAY_BYTES)
    try:
        yield
    finally:
        cluster.go_on()


async def source_on_a(cluster: Cluster, name: str, big_bytes: int = TREE_BYTES) -> str:
    """A container on server a, most of whose tree does not compress."""
    tree = cluster.tree(name)
    trees.make(tree, files=20, big_bytes=big_bytes)
    async with cluster.api() as api:
        return await api.create(tree)


async def write_more(api: Api, container_id: str, size_bytes: int) -> None:
    """A new file in a container, which does not compress."""
    path = Path(await api.rootfs(container_id), "srv/more")
    path.write_bytes(Random(size_bytes).randbytes(size_bytes))


async def stale_copy(
    cluster: Cluster, api: Api, name: str, first_bytes: int, more_bytes: int
) -> tuple[str, str]:
    """A container on server a and its copy on b, made before the last `more_bytes` were written."""
    source = await source_on_a(cluster, name, first_bytes)
    copy_id, _ = await api.copy(source, cluster.daemons[1].server_id)
    await write_more(api, source, more_bytes)
    return source, copy_id


async def in_the_middle(
    api: Api, job_id: str, bytes_done: int = 1, before: Json | None = None
) -> Json:
    """The running job, once its attempt has moved so much and not all; its streams are halted.
    `before` is the progress that an earlier attempt has left."""
    async with asyncio.timeout(PROGRESS_SECONDS):
        while True:
            job = await api.job(job_id)
            assert job["state"] in ("queued", "running"), job
            progress = job["progress"]
            fresh = job["state"] == "running" and progress != before
            if fresh and progress["bytes_done"] >= bytes_done:
                assert 0 < progress["bytes_done"] < progress["bytes_total"], job
                return job
            await asyncio.sleep(POLL_SECONDS)


async def next_attempt(api: Api, job_id: str, after: int) -> None:
    """Returns when a later attempt has begun."""
    async with asyncio.timeout(PROGRESS_SECONDS):
        while (await api.job(job_id))["attempt"] == after:
            await asyncio.sleep(POLL_SECONDS)


async def trouble(api: Api, job_id: str) -> str:
    """The code with which an attempt of the job has ended, once one has; it is tried again."""
    async with asyncio.timeout(PROGRESS_SECONDS):
        while (job := await api.job(job_id))["error"] is None:
            assert job["state"] in ("queued", "running"), job
            await asyncio.sleep(POLL_SECONDS)
    assert job["state"] in ("queued", "running") and job["error"]["retryable"], job
    return str(job["error"]["code"])


async def assert_same(api: Api, cluster: Cluster, source_id: str, copy_id: str) -> None:
    """Both trees are equal."""
    source, copy = await api.rootfs(source_id), await api.rootfs(copy_id)
    await asyncio.to_thread(trees.assert_equal, source, copy, zfs=cluster.zfs)


async def assert_clean(cluster: Cluster) -> None:
    """Soon nothing half-made is left on any server, nothing is held, and the doctor is content."""
    deadline = time.monotonic() + CLEAN_SECONDS
    for daemon in cluster.daemons:
        while left := await _left_over(daemon):
            assert time.monotonic() < deadline, f"{daemon.name}: {left}"
            await asyncio.sleep(POLL_SECONDS * 4)
    for daemon in cluster.daemons:
        assert not await doctor.examine(load(str(daemon.config_path), {}), repair=False)


async def _left_over(daemon: Daemon) -> list[str]:
    """What is there and should not be, while no job runs."""
    db = Database(load(str(daemon.config_path), {}).database.url)
    try:
        async with db.read() as tx:
            rows = await datasets.on_server(tx, daemon.server_id)
            held = await holdings.of_server(tx, daemon.server_id)
            taken = await snapshots.on_server(tx, daemon.server_id)
    finally:
        await db.close()
    forest = await forest_of(daemon)
    whole = {row.path for row in rows if row.ready}
    guids = {snapshot.guid for snapshot in forest.snapshots()}
    return [
        *(f"half-made {row.path}" for row in rows if not row.ready),
        *(f"unknown {path}" for path in sorted(forest.datasets.keys() - whole)),
        *(f"partial {dataset.path}" for dataset in forest if dataset.partial),
        *(f"held {snapshot.name}" for snapshot in forest.snapshots() if snapshot.holds),
        *(f"holds of {job_id}" for job_id in held),
        *(f"snapshot row {row.id}" for row in taken if row.guid not in guids),
        *(f"scratch {path}" for path in _scratch(daemon.storage_root)),
    ]


def _scratch(root: str) -> list[str]:
    """What a dir storage has begun to make or to remove: hidden names beside its datasets and
    snapshots. Trees are not looked into."""
    found = []
    for directory, names, _files in os.walk(root):
        found += [os.path.join(directory, name) for name in names if name.startswith(".")]
        names[:] = [n for n in names if not n.startswith(".") and n not in ("live", "tree")]
    return found


def kill_target(cluster: Cluster) -> None:
    """The daemon that pulls dies, and is started again."""
    _kill_and_start(cluster.daemons[1])


def kill_source(cluster: Cluster) -> None:
    """The daemon that serves dies, and is started again."""
    _kill_and_start(cluster.daemons[0])


def kill_worker(cluster: Cluster) -> None:
    """The process that has the job dies: the one with a link to the other server."""
    _, port = cluster.daemons[0].peer_address
    busy = [
        worker
        for worker in cluster.daemons[1].children("worker")
        if any(link.raddr and link.raddr.port == port for link in worker.net_connections())
    ]
    assert busy, "no worker has a link"
    _kill(busy)


def kill_exporters(cluster: Cluster) -> None:
    """The processes that serve die."""
    kill_of(cluster.daemons[0], "exporter")


def kill_of(daemon: Daemon, verb: str) -> None:
    """All of a daemon's children of one kind die."""
    children = daemon.children(verb)
    assert children
    _kill(children)


STRIKES: tuple[Strike, ...] = (kill_target, kill_source, kill_worker, kill_exporters)


def watcher_of(strike: Strike) -> int:
    """The server whose API sees a strike through."""
    return 1 if strike is kill_source else 0


def _kill_and_start(daemon: Daemon) -> None:
    daemon.kill()  # fails where a child of it lives on
    daemon.start()


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, RESTART_SECONDS)
