"""Jobs that meet: many first copies of one source, writers and deletes in the middle of a
transfer, and a server that is lost and comes back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import pytest

from tests.acceptance import trees
from tests.acceptance.api import Api, refuses
from tests.acceptance.scraped import Scrape
from tests.acceptance.space import until
from tests.fault.boundaries import FreezingCluster, MakeCluster
from tests.fault.disturbing import (
    assert_clean,
    assert_same,
    halted,
    in_the_middle,
    source_on_a,
    stale_copy,
)

COPIES = 10
TREE_BYTES = 8 << 20
MESSAGE_BYTES = 64 << 10  # what a job that ships nothing may cost on the wire
WRITTEN_FILES = 8
FILE_BYTES = 64 << 10
LOST_SECONDS = 15


@pytest.fixture(scope="module")
def cluster(make_cluster: MakeCluster) -> FreezingCluster:
    """Two servers, a and b."""
    return make_cluster(2)


@pytest.fixture(scope="module")
def anxious(make_cluster: MakeCluster) -> FreezingCluster:
    """Two servers that soon miss each other."""
    timing = {"heartbeat_seconds": 1, "server_lost_seconds": LOST_SECONDS, "sweep_seconds": 1}
    return make_cluster(2, {"timing": timing})


async def test_ten_first_copies_at_once(cluster: FreezingCluster) -> None:
    """The source is shipped once."""
    source = await source_on_a(cluster, "ten", TREE_BYTES)
    there = cluster.daemons[1].server_id
    async with cluster.api() as api:
        with halted(cluster):
            asked = [api.start_copy(source, there) for _ in range(COPIES)]
            started = await asyncio.gather(*asked)
        jobs = await asyncio.gather(*(api.done(one.job_id) for one in started))
        wire_bytes = sum(job["result"]["bytes_wire"] for job in jobs)
        assert TREE_BYTES < wire_bytes < 1.5 * TREE_BYTES + COPIES * MESSAGE_BYTES
        assert sum(job["result"]["bytes_logical"] > TREE_BYTES for job in jobs) == 1
        for one in (started[0], started[-1]):
            await assert_same(api, cluster, source, one.container_id)
    await assert_clean(cluster)


@contextlib.contextmanager
def _writing(directory: Path) -> Iterator[None]:
    """Somebody who puts new files in the place of old ones, all the time: each is of one letter,
    and in every round all get the next one, in their order."""
    stop = Event()

    def write() -> None:
        turn = 0
        while not stop.is_set():
            for number in range(WRITTEN_FILES):
                fresh = directory / ".fresh"
                fresh.write_bytes(bytes([ord("a") + turn % 26]) * FILE_BYTES)
                fresh.replace(directory / f"file{number}")
            turn += 1

    writer = Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        stop.set()
        writer.join()


async def test_a_copy_of_a_source_that_is_written_hard(cluster: FreezingCluster) -> None:
    """Every file is as it was at one time; on zfs all of them as at the same time."""
    source = await source_on_a(cluster, "written", 1 << 20)
    async with cluster.api() as api:
        written = Path(await api.rootfs(source), "srv/written")
        written.mkdir()
        for number in range(WRITTEN_FILES):
            (written / f"file{number}").write_bytes(b"a" * FILE_BYTES)
        with _writing(written):
            copies = [await api.copy(source, daemon.server_id) for daemon in cluster.daemons]
            for copy, _ in copies:
                await api.sync(copy)
        for copy, _ in copies:
            taken = Path(await api.rootfs(copy), "srv/written")
            files = [(taken / f"file{number}").read_bytes() for number in range(WRITTEN_FILES)]
            assert all(len(file) == FILE_BYTES and len(set(file)) == 1 for file in files)
            letters = [file[0] for file in files]
            if cluster.zfs:  # those before the writer's place are one letter ahead
                ahead = [(letter - letters[-1]) % 26 for letter in letters]
                assert ahead == sorted(ahead, reverse=True)
                assert set(ahead) <= {0, 1}
    await assert_clean(cluster)


async def test_the_source_is_deleted_in_mid_copy(cluster: FreezingCluster) -> None:
    """The delete waits until the copy has ended well."""
    source = await source_on_a(cluster, "deleted-source", TREE_BYTES)
    async with cluster.api() as api:
        with halted(cluster):
            started = await api.start_copy(source, cluster.daemons[1].server_id)
            await in_the_middle(api, started.job_id)
            tree = trees.walk(await api.rootfs(source))
            deleting = asyncio.create_task(api.delete(source))
            await until(lambda: api.container(source), lambda found: found["status"] == "deleting")
            (waiting,) = await api.jobs(source, "delete")
            assert waiting["state"] == "queued"
        job = await api.done(started.job_id)
        deleted = await deleting
        assert deleted["started_at"] >= job["finished_at"]
        copy = started.container_id
        assert not trees.differences(tree, trees.walk(await api.rootfs(copy)))
        found = await api.container(copy)
        assert (found["status"], found["sync_state"]) == ("running", "orphaned")
        with refuses(404, "CONTAINER_NOT_FOUND"):
            await api.container(source)
    await assert_clean(cluster)


async def test_the_copy_is_deleted_in_mid_sync(cluster: FreezingCluster) -> None:
    """The sync is cancelled, and all goes."""
    async with cluster.api() as api:
        source, copy = await stale_copy(cluster, api, "deleted-copy", 1 << 20, TREE_BYTES)
        rootfs = Path(await api.rootfs(copy))
        with halted(cluster):
            sync = await api.start_sync(copy)
            await in_the_middle(api, sync.job_id)
            await api.delete(copy)
        job = await api.job(sync.job_id)
        assert (job["state"], job["error"]["code"]) == ("cancelled", "CANCELLED")
        with refuses(404, "CONTAINER_NOT_FOUND"):
            await api.container(copy)
        await until(lambda: asyncio.to_thread(rootfs.exists), lambda found: not found)
        assert (await api.container(source))["status"] == "running"
    await assert_clean(cluster)


async def _lost(api: Api, job_id: str) -> None:
    job = await api.wait(job_id)
    assert (job["state"], job["error"]["code"]) == ("failed", "SERVER_LOST")


async def _counted(cluster: FreezingCluster, **labels: str) -> None:
    """Its own server cannot count a job that it has lost: who ended it does, once."""

    def count() -> float:
        return Scrape(cluster.daemons[0]).value("hoody_jobs_total", **labels)

    assert await until(lambda: asyncio.to_thread(count), lambda count: count > 0) == 1


async def test_a_lost_server(anxious: FreezingCluster) -> None:
    """A live one fails its jobs, but for a delete, and ends those that are cancelled. When it is
    back, what they left goes."""
    there = anxious.daemons[1]
    source = await source_on_a(anxious, "lost", TREE_BYTES)
    async with anxious.api() as api:
        doomed, _ = await api.copy(source, there.server_id)
        other = await source_on_a(anxious, "lost-too", TREE_BYTES)
        with halted(anxious):
            started = await api.start_copy(other, there.server_id)
            await in_the_middle(api, started.job_id)
            there.kill()
        unwanted = await api.start_sync(doomed)
        await api.call("POST", f"/jobs/{unwanted.job_id}/cancel")  # before its silence is noticed
        assert (await api.wait(unwanted.job_id))["state"] == "cancelled"
        await _counted(anxious, type="sync", outcome="cancelled")
        deleting = asyncio.create_task(api.delete(doomed))
        await _lost(api, started.job_id)
        await _counted(anxious, type="copy", outcome="failed")
        found = await api.container(started.container_id)
        assert (found["status"], "SERVER_LOST" in found["status_reason"]) == ("error", True)
        (waiting,) = await api.jobs(doomed, "delete")
        assert waiting["state"] == "queued"
        there.start()
        await deleting
        await assert_clean(anxious)
        again = await api.sync(started.container_id)
        assert again["type"] == "copy"
        await assert_same(api, anxious, other, started.container_id)
    await assert_clean(anxious)
