"""prod -> staging -> dev on three servers, until one of them is lost and `hoodyd server remove`
forgets it: the others let go of what they kept for it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.acceptance.album import write_file
from tests.acceptance.api import Api
from tests.acceptance.cluster import Cluster, Daemon, MakeCluster
from tests.acceptance.space import doctors_are_content, forest_of, until
from tests.acceptance.trees import make

DATA_BYTES = 1 << 20
SLACK_BYTES = 64 << 10

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def backend() -> str:
    """dir alone: what is collected on zfs, too, tests/contract/engine/test_bases_hops.py says."""
    return "dir"


@dataclass
class Chain:
    """Three servers, and on each a container that is the copy of the one before."""

    cluster: Cluster
    api: Api
    prod: str
    staging: str
    dev: str

    async def data(self, container_id: str) -> bytes:
        """The file that changes every day."""
        path = Path(await self.api.rootfs(container_id), "srv", "data")
        return await asyncio.to_thread(path.read_bytes)


@pytest.fixture
async def chain(make_cluster: MakeCluster) -> AsyncIterator[Chain]:
    cluster = make_cluster(3)
    a, b, c = [daemon.server_id for daemon in cluster.daemons]
    make(cluster.tree("prod"), files=20, big_bytes=DATA_BYTES, sparse_bytes=1 << 20)
    async with cluster.api() as api:
        prod = await api.create(cluster.tree("prod"), server_id=a)
        staging, _ = await api.copy(prod, b)
        dev, _ = await api.copy(staging, c)
        yield Chain(cluster, api, prod, staging, dev)


async def snapshots_of(daemon: Daemon) -> int:
    return len(list((await forest_of(daemon)).snapshots()))


async def remove(lost: Daemon, through: Daemon) -> None:
    """Refused as long as the server may be alive."""
    argv = [sys.executable, "-m", "daemon", "server", "remove", lost.server_id]
    argv += ["--config", str(through.config_path)]

    async def tried() -> int:
        done = await asyncio.to_thread(subprocess.run, argv, capture_output=True, check=False)
        return done.returncode

    assert await tried() == 2
    await asyncio.to_thread(lost.kill)
    await until(tried, lambda status: status == 0)


async def test_a_lost_server_in_the_middle(chain: Chain) -> None:
    cluster, api = chain.cluster, chain.api
    for day in range(2):
        fresh = os.urandom(DATA_BYTES)
        await write_file(api, chain.prod, "data", fresh)
        first = await api.sync(chain.staging)
        second = await api.sync(chain.dev)
        for job in (first, second):
            assert job["result"]["bytes_wire"] <= DATA_BYTES + SLACK_BYTES, day
        assert await chain.data(chain.dev) == fresh
    a, b, c = cluster.daemons
    assert await snapshots_of(a) > 0
    await remove(b, a)
    cluster.daemons.remove(b)
    for daemon in (a, c):
        await until(partial(snapshots_of, daemon), lambda left: left == 0)
    assert await chain.data(chain.prod) == await chain.data(chain.dev) == fresh
    left = {one["id"] for one in (await api.call("GET", "/containers"))["containers"]}
    assert left == {chain.prod, chain.dev}
    again, _ = await api.copy(chain.prod, c.server_id)
    assert await chain.data(again) == fresh
    await doctors_are_content(cluster)
