"""The catalogue's own disk is full, or fails and can only be read: the API says so, no daemon
dies, jobs wait; and with room again all goes on where it was."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psutil

from tests.acceptance.api import Api, Refused
from tests.fault.boundaries import FreezingCluster
from tests.fault.disturbing import assert_clean, assert_same, halted, in_the_middle, source_on_a
from tests.fault.filling import Ext4, Tmpfs

TREE_BYTES = 10 << 20
CATALOGUE_BYTES = 16 << 20
REFUSED_SECONDS = 180.0
POLL_SECONDS = 0.05

_numbers = count()


@contextlib.contextmanager
def cluster_on(disk: Tmpfs | Ext4, directory: Path) -> Iterator[FreezingCluster]:
    """Two servers whose catalogue is on this disk."""
    url = f"sqlite:///{disk.path}/catalogue.db"
    with (
        disk.mounted(),
        FreezingCluster(directory, "dir", 2, database_url=url) as cluster,
    ):
        yield cluster


async def until_refused(api: Api) -> None:
    """Writes until the catalogue has no room for it. SQLite goes on for as long as its log has
    places that it may use again."""
    async with asyncio.timeout(REFUSED_SECONDS):
        while True:
            try:
                await api.call("POST", "/projects", name=f"project {next(_numbers)}")
            except Refused as refused:
                assert (refused.status, refused.code) == (503, "SERVICE_UNAVAILABLE")
                return


async def until_taken(api: Api) -> None:
    """Writes until that is taken."""
    async with asyncio.timeout(REFUSED_SECONDS):
        while True:
            try:
                await api.call("POST", "/projects", name=f"project {next(_numbers)}")
            except Refused as refused:
                assert (refused.status, refused.code) == (503, "SERVICE_UNAVAILABLE")
                await asyncio.sleep(POLL_SECONDS)
            else:
                return


async def test_a_full_disk() -> None:
    with tempfile.TemporaryDirectory(prefix="hoody-") as name:
        disk = Tmpfs(Path(name) / "catalogue", CATALOGUE_BYTES)
        with cluster_on(disk, Path(name)) as cluster:
            pids = [daemon.pid for daemon in cluster.daemons]
            async with cluster.api() as api, cluster.api(1) as other:
                source = await source_on_a(cluster, "full", TREE_BYTES)
                with halted(cluster):
                    copy = await api.start_copy(source, cluster.daemons[1].server_id)
                    await in_the_middle(api, copy.job_id)
                    disk.fill()
                    for one in (api, other):
                        await until_refused(one)
                    assert (await api.container(source))["status"] == "running"  # it can be read
                disk.empty()
                for one in (api, other):
                    await until_taken(one)
                assert [psutil.Process(pid).is_running() for pid in pids] == [True, True]
                await api.done(copy.job_id)
                await assert_same(api, cluster, source, copy.container_id)
                assert [daemon.pid for daemon in cluster.daemons] == pids
            await assert_clean(cluster)


async def test_a_disk_that_can_only_be_read() -> None:
    with tempfile.TemporaryDirectory(prefix="hoody-") as name:
        disk = Ext4(Path(name) / "catalogue")
        with cluster_on(disk, Path(name)) as cluster:
            async with cluster.api() as api:
                source = await source_on_a(cluster, "read-only", TREE_BYTES)
                with halted(cluster):
                    copy = await api.start_copy(source, cluster.daemons[1].server_id)
                    await in_the_middle(api, copy.job_id)
                    disk.fail()
                await until_refused(api)
                assert all(psutil.Process(daemon.pid).is_running() for daemon in cluster.daemons)
            for daemon in cluster.daemons:
                daemon.stop()  # fails where one does not end in good order
            disk.mend()
            for daemon in cluster.daemons:
                daemon.start()
            async with cluster.api() as api:
                await api.done(copy.job_id)
                await assert_same(api, cluster, source, copy.container_id)
            await assert_clean(cluster)
