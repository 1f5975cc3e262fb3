"""The snapshot page on real daemons: its five endpoints, expiry, and what goes on meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import re
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from tests.acceptance import trees
from tests.acceptance.album import Album, names, write_file
from tests.acceptance.api import Api, Json, refuses
from tests.acceptance.cluster import Cluster, Daemon, MakeCluster
from tests.acceptance.space import doctors_are_content, gone, until

RATE_BYTES = 4 << 20
SHIPPED_BYTES = 8 << 20
SECONDS_A_DAY = 86_400
EXPIRY_SECONDS = 1.5
HANGS_SECONDS = 60.0  # far less than the 300 that a request would wait for its job
TRIES = 20
WRITTEN_BYTES = 16 << 20

NAME = re.compile(r"snap-(\d{8}-\d{6})(-\d+)?")


@pytest.fixture(scope="module")
def cluster(make_cluster: MakeCluster) -> Cluster:
    """Two servers whose transfers are slow enough to be met on the way."""
    transfer = {"bandwidth_limit_bytes_per_second": RATE_BYTES}
    return make_cluster(2, {"transfer": transfer, "timing": {"sweep_seconds": 1}})


@pytest.fixture
async def album(cluster: Cluster) -> AsyncIterator[Album]:
    async with cluster.api() as api:
        yield Album(cluster, api)


@pytest.fixture
async def source(album: Album, request: pytest.FixtureRequest) -> str:
    """A container on server a."""
    return await album.source(request.node.originalname)


async def test_the_five_endpoints(album: Album, source: str) -> None:
    api = album.api
    of = {"container_id": source, "project_id": api.project_id}
    before = datetime.now(UTC)
    made = await album.snapshot(source, alias="before the storm", expiry=30)
    plain = await album.snapshot(source)

    taken = datetime.fromisoformat(made["created_at"])
    assert abs(taken - before) < timedelta(minutes=1)
    assert NAME.fullmatch(made["name"])[1] == f"{taken:%Y%m%d-%H%M%S}"
    assert datetime.fromisoformat(made["expires_at"]) == taken + timedelta(days=30)
    assert made["size"] > 1_000_000
    assert {key: made[key] for key in ("alias", "last_used_at", "stateful", "inherited")} == {
        "alias": "before the storm",
        "last_used_at": None,
        "stateful": False,
        "inherited": False,
    }
    assert (plain["alias"], plain["expires_at"]) == (None, None)

    listed = await api.call("GET", f"/containers/{source}/snapshots")
    assert {key: listed[key] for key in of} == of
    assert names(listed["snapshots"]) == [plain["name"], made["name"]]
    assert [entry["guid"] for entry in listed["snapshots"]] == [plain["guid"], made["guid"]]

    restored = await api.restore(source, made["name"])
    assert restored["success"] is True
    assert restored["snapshot"]["name"] == made["name"]
    assert (await api.container(source))["status"] == "running"

    assert (await api.set_alias(source, plain["name"], "after"))["alias"] == "after"
    assert (await api.set_alias(source, made["name"], None))["alias"] is None
    aliases = [entry["alias"] for entry in await api.snapshots(source)]
    assert aliases == ["after", None]

    deleted = await api.delete_snapshot(source, made["name"])
    assert deleted == of | {"snapshot_name": made["name"]}
    assert names(await api.snapshots(source)) == [plain["name"]]
    with refuses(404, "RESOURCE_NOT_FOUND"):
        await api.restore(source, made["name"])


async def test_two_in_one_second(album: Album, source: str, backend: str) -> None:
    """They have names of their own, and each is what it was taken of. On a busy machine no two
    on zfs fall into one second: each waits for its transaction group."""
    for _ in range(TRIES if backend == "dir" else 2):
        entry = await album.snapshot(source)
        if entry["name"].endswith("-2"):
            break
    listed = await album.api.snapshots(source)
    second, first = listed[:2]
    assert second["name"] == f"{first['name']}-2" or backend == "zfs"
    assert len(set(names(listed))) == len(listed)
    for entry in (first, second):
        await album.api.restore(source, entry["name"])
        await album.assert_shows(source, entry)


async def test_an_alias_serves_as_the_name(album: Album, source: str) -> None:
    """The newest of those that have it; only to delete, it must be the only one."""
    api = album.api
    first = await album.snapshot(source, alias="daily")
    second = await album.snapshot(source, alias="daily")
    await album.write(source)

    await api.restore(source, "daily")
    await album.assert_shows(source, second)
    with refuses(409, "SNAPSHOT_ALIAS_AMBIGUOUS"):
        await api.delete_snapshot(source, "daily")
    assert (await api.set_alias(source, "daily", "nightly"))["name"] == second["name"]

    await api.restore(source, "daily")
    await album.assert_shows(source, first)
    assert (await api.delete_snapshot(source, "daily"))["snapshot_name"] == first["name"]
    assert names(await api.snapshots(source)) == [second["name"]]
    await api.restore(source, "nightly")
    await album.assert_shows(source, second)


async def test_restore_gives_the_exact_tree_back(album: Album, source: str) -> None:
    """Any of them, in any order, and what was taken after it stays."""
    entries = [await album.snapshot(source) for _ in range(3)]
    await album.write(source)
    for at in (0, 2, 1):
        await album.api.restore(source, entries[at]["name"])
        await album.assert_shows(source, entries[at])
        assert names(await album.api.snapshots(source)) == names(entries[::-1])

    entries.append(await album.snapshot(source))
    await album.assert_restores(source)


async def test_last_used_moves_on_restore_and_copy_from(album: Album, source: str) -> None:
    """On that entry only: neither on the others, nor on a copy's or a source's of the same."""
    api = album.api

    async def uses(container_id: str) -> list[bool]:
        return [entry["last_used_at"] is not None for entry in await api.snapshots(container_id)]

    for _ in range(3):
        await album.snapshot(source)
    newest, middle, oldest = await api.snapshots(source)
    copy, _ = await api.copy(source)
    assert await uses(source) == [False, False, False]

    await api.restore(source, oldest["name"])
    assert await uses(source) == [False, False, True]
    await api.copy(source, source_snapshot=middle["name"])
    assert await uses(source) == [False, True, True]
    assert await uses(copy) == [False, False, False]
    await api.restore(copy, newest["name"])
    assert await uses(copy) == [True, False, False]
    assert await uses(source) == [False, True, True]

    used = (await api.snapshots(source))[2]["last_used_at"]
    await api.restore(source, oldest["name"])
    assert (await api.snapshots(source))[2]["last_used_at"] > used


async def test_expiry(cluster: Cluster, album: Album, source: str) -> None:
    """The daemon carries it out: the entry goes, its storage goes, and the others stay."""
    api = album.api
    kept = await album.snapshot(source, expiry=1)
    entry = await album.snapshot(source, expiry=EXPIRY_SECONDS / SECONDS_A_DAY)
    await album.write(source)
    await until(lambda: api.snapshots(source), lambda listed: names(listed) == [kept["name"]])
    assert datetime.now(UTC) >= datetime.fromisoformat(entry["expires_at"])
    expire, *_ = await api.jobs(source, "expire")
    assert (await api.done(expire["id"]))["result"] == {"expired": [entry["name"]]}
    await gone(cluster.daemons[0], entry["guid"])
    await api.restore(source, kept["name"])
    await album.assert_shows(source, kept)


@contextlib.contextmanager
def _stopped(daemon: Daemon) -> Iterator[None]:
    daemon.stop()
    try:
        yield
    finally:
        daemon.start()


async def test_expiry_while_the_daemon_was_down(cluster: Cluster, album: Album) -> None:
    """It is carried out at the start, by the container's own server and nobody else."""
    api, there = album.api, cluster.daemons[1]
    container = await album.source("expires-down", number=1)
    kept = await album.snapshot(container)
    entry = await album.snapshot(container, expiry=EXPIRY_SECONDS / SECONDS_A_DAY)
    with _stopped(there):
        over = datetime.fromisoformat(entry["expires_at"])

        async def is_over() -> bool:
            return datetime.now(UTC) > over

        await until(is_over, bool)
    await until(lambda: api.snapshots(container), lambda listed: names(listed) == [kept["name"]])
    expire, *_ = await api.jobs(container, "expire")
    assert expire["server_id"] == there.server_id
    await gone(there, entry["guid"])


async def test_a_server_that_is_down(cluster: Cluster, album: Album) -> None:
    """No snapshot is taken, restored or deleted there: 503 at once, and no job is left."""
    api, there = album.api, cluster.daemons[1]
    container = await album.source("server-down", number=1)
    name = (await album.snapshot(container))["name"]

    with _stopped(there):
        server = f"/servers/{there.server_id}"
        await until(lambda: api.call("GET", server), lambda seen: not seen["online"])
        async with asyncio.timeout(HANGS_SECONDS):
            with refuses(503, "SERVICE_UNAVAILABLE"):
                await api.snapshot(container)
            with refuses(503, "SERVICE_UNAVAILABLE"):
                await api.restore(container, name)
            with refuses(503, "SERVICE_UNAVAILABLE"):
                await api.delete_snapshot(container, name)
        assert names(await api.snapshots(container)) == [name]
        assert (await api.set_alias(container, name, "renamed"))["alias"] == "renamed"

    assert (await api.container(container))["status"] == "running"
    assert len(await api.jobs(container, "snapshot")) == 1
    assert not await api.jobs(container, "restore")
    assert not await api.jobs(container, "snapshot_delete")
    await album.snapshot(container)
    await api.restore(container, "renamed")


@contextlib.asynccontextmanager
async def _held_up(cluster: Cluster, api: Api, job_id: str) -> AsyncIterator[None]:
    """The job is in the middle of its transfer, and stays there: the exporters of server a,
    which it reads from, are suspended."""

    async def progress() -> Json:
        return dict((await api.job(job_id))["progress"])

    await until(progress, lambda seen: seen.get("bytes_done", 0) > 0)
    exporters = cluster.daemons[0].children("exporter")
    for exporter in exporters:
        exporter.suspend()
    try:
        yield
        assert (await api.job(job_id))["state"] == "running", "it was over too soon"
    finally:
        for exporter in exporters:
            exporter.resume()


async def test_deleted_while_a_copy_from_it_runs(
    cluster: Cluster, album: Album, source: str
) -> None:
    """It leaves the list at once; the copy ends well; then its storage goes."""
    api, (here, there) = album.api, cluster.daemons
    await write_file(api, source, "big", Random(1).randbytes(SHIPPED_BYTES))
    wanted = await album.snapshot(source)
    newer = await album.snapshot(source)
    await album.write(source)

    copy = await api.start_copy(source, there.server_id, source_snapshot=wanted["name"])
    async with _held_up(cluster, api, copy.job_id):
        await api.delete_snapshot(source, wanted["name"])
        await api.delete_snapshot(source, newer["name"])
        assert await api.snapshots(source) == []
        await gone(here, newer["guid"])  # the collector has been there
    await api.done(copy.job_id)
    await album.assert_shows(copy.container_id, wanted)

    await api.delete(copy.container_id)
    await gone(there, wanted["guid"])
    await gone(here, wanted["guid"])


async def test_deleted_while_a_copy_from_it_waits(
    cluster: Cluster, album: Album, source: str
) -> None:
    """For its server, which is down: nothing holds the snapshot yet, and it is kept."""
    api, (here, there) = album.api, cluster.daemons
    wanted, newer = [await album.snapshot(source) for _ in range(2)]
    await album.write(source)
    with _stopped(there):
        copy = await api.start_copy(source, there.server_id, source_snapshot=wanted["name"])
        await api.delete_snapshot(source, wanted["name"])
        await api.delete_snapshot(source, newer["name"])
        await gone(here, newer["guid"])
    await api.done(copy.job_id)
    await album.assert_shows(copy.container_id, wanted)


async def test_snapshots_while_a_sync_runs(cluster: Cluster, album: Album, source: str) -> None:
    """List, alias and delete work; to take or to restore one is a conflict."""
    api = album.api
    inherited = await album.snapshot(source)
    copy, _ = await api.copy(source, cluster.daemons[1].server_id)
    own = await album.snapshot(copy)
    await write_file(api, source, "big", Random(2).randbytes(SHIPPED_BYTES))

    sync = await api.start_sync(copy)
    async with _held_up(cluster, api, sync.job_id):
        assert names(await api.snapshots(copy)) == [own["name"], inherited["name"]]
        await api.set_alias(copy, own["name"], "kept")
        await api.delete_snapshot(copy, inherited["name"])
        with refuses(409, "OPERATION_STATE_CONFLICT"):
            await api.snapshot(copy)
        with refuses(409, "OPERATION_STATE_CONFLICT"):
            await api.restore(copy, "kept")
        assert names(await api.snapshots(copy)) == [own["name"]]
    await api.done(sync.job_id)
    await album.assert_same(source, copy)
    assert names(await api.snapshots(copy)) == [own["name"]]
    await api.restore(copy, "kept")
    await album.assert_shows(copy, own)


@contextlib.contextmanager
def _written_all_the_time(path: Path) -> Iterator[None]:
    """A file of which something changes as often as a thread can."""
    path.write_bytes(bytes(WRITTEN_BYTES))
    over = threading.Event()

    def write() -> None:
        with path.open("r+b", buffering=0) as file:
            for number in itertools.count():
                if over.is_set():
                    return
                os.pwrite(file.fileno(), b"%020d" % number, number * 4096 % WRITTEN_BYTES)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


async def test_a_file_that_is_written_all_the_time(
    cluster: Cluster, album: Album, source: str
) -> None:
    """On zfs a snapshot is atomic. On dir it is consistent per file: it says how many were not,
    and all the others are exact."""
    api = album.api
    await album.write(source)
    rootfs = Path(await api.rootfs(source))
    expected = 0 if cluster.zfs else 1
    for _ in range(TRIES):  # on a busy machine the writer may not have its turn meanwhile
        with _written_all_the_time(rootfs / "srv/busy"):
            entry = await album.snapshot_as_it_is(source)
        job, *_ = await api.jobs(source, "snapshot")
        assert job["result"]["snapshot"] == entry["name"]
        if job["result"]["inconsistent_files"] == expected:
            break
    assert job["result"]["inconsistent_files"] == expected

    await album.write(source)
    await api.restore(source, entry["name"])
    found = trees.differences(album.pages[entry["guid"]], await album.walk(source))
    assert [line for line in found if "srv/busy" not in line] == []
    assert Path(await api.rootfs(source), "srv/busy").stat().st_size == WRITTEN_BYTES


async def test_the_doctors_are_content(cluster: Cluster) -> None:
    """After all this."""
    await doctors_are_content(cluster)
