"""History costs no space twice, on zfs: twenty snapshots of fifty megabytes each, copied to
another server once and once more."""

from __future__ import annotations

import asyncio
import os

import pytest

from tests.acceptance.album import Album, inheritable, write_file
from tests.acceptance.cluster import Cluster, MakeCluster
from tests.acceptance.space import MIB, falls_below, used_bytes

SNAPSHOTS = 20
SNAPSHOT_BYTES = 50_000_000
HISTORY_BYTES = SNAPSHOTS * SNAPSHOT_BYTES
COPY_SECONDS = 300.0

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def backend() -> str:
    """What is said here is of zfs."""
    return "zfs"


@pytest.fixture(scope="module")
def cluster(make_cluster: MakeCluster) -> Cluster:
    """Two servers."""
    return make_cluster(2)


async def test_history_costs_no_space_twice(cluster: Cluster) -> None:
    server = cluster.daemons[1].server_id
    async with cluster.api() as api:
        album = Album(cluster, api)
        source = await album.source("heavy")
        for _ in range(SNAPSHOTS):
            await write_file(api, source, "fresh", os.urandom(SNAPSHOT_BYTES))
            await api.snapshot(source)
        empty = await asyncio.to_thread(used_bytes, cluster, 1)

        started = await api.start_copy(source, server)
        await api.done(started.job_id, COPY_SECONDS)
        first = await falls_below(cluster, 1, empty + int(1.1 * HISTORY_BYTES))
        assert first - empty > HISTORY_BYTES

        second, job = await api.copy(source, server)
        assert job["result"]["bytes_wire"] < MIB
        both = await falls_below(cluster, 1, first + 2 * MIB)
        print(f"first copy: {first - empty} bytes, second: {both - first} bytes")

        for copy in (started.container_id, second):
            assert inheritable(await api.snapshots(copy)) == inheritable(
                await api.snapshots(source)
            )
            await album.assert_same(source, copy)
