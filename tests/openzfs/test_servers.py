"""A copy from one machine to another, by our daemons over real ssh, and what may happen to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.acceptance.api import Api
from tests.fault.disturbing import in_the_middle, trouble
from tests.openzfs.conftest import Nodes
from tests.openzfs.servers import IMPORTS, Server
from tests.postgres import serving

pytestmark = pytest.mark.timeout(1200)

DATA_BYTES = 24 << 20
PART_BYTES = 6 << 20

Servers = tuple[Server, Server]


@pytest.fixture(scope="module")
def servers(nodes: Nodes) -> Iterator[Servers]:
    """node1 and node2 with a daemon each; a test leaves them running."""
    with serving() as postgres:
        postgres.create("hoody")
        one, two = (Server(node, f"node{at}", postgres) for at, node in enumerate(nodes, 1))
        try:
            one.set_up()
            two.set_up(one)
            for begin_or_wait in (Server.launch, Server.wait_ready):
                begin_or_wait(one)
                begin_or_wait(two)
            yield one, two
        finally:
            one.end()
            two.end()


@pytest.fixture
async def api(servers: Servers) -> AsyncIterator[Api]:
    """The API of the first server, whose machine stays on."""
    async with servers[0].api() as api:
        yield api


@pytest.fixture
async def source(servers: Servers, api: Api, request: pytest.FixtureRequest) -> str:
    """A container on node1 with a file that does not compress."""
    tree = f"{IMPORTS}/{request.node.name}"
    servers[0].shell(f"mkdir {tree}; head -c {DATA_BYTES} /dev/urandom > {tree}/data")
    return await api.create(tree)


async def begin_copy(servers: Servers, api: Api, source: str) -> tuple[str, str]:
    """Starts a copy to node2; the copy's id and the job's, which is in the middle."""
    server_id = servers[1].shell("cat /var/lib/hoody/server_id").strip()
    started = await api.start_copy(source, server_id)
    await in_the_middle(api, started.job_id, PART_BYTES)
    return started.container_id, started.job_id


async def assert_same(servers: Servers, api: Api, source: str, copy: str) -> None:
    """Both have the same file, and neither server has anything that it should not have."""
    sums = set()
    for server, container in zip(servers, (source, copy), strict=True):
        path = f"{await api.rootfs(container)}/data"
        said = await asyncio.to_thread(server.shell, f"sha256sum < {path}")
        sums.add(said)
        await asyncio.to_thread(server.hoodyd, "doctor")
    assert len(sums) == 1


async def test_a_target_that_loses_its_power_goes_on(
    servers: Servers, api: Api, source: str
) -> None:
    copy, job_id = await begin_copy(servers, api, source)
    servers[1].cut_power()
    servers[1].boot()
    job = await api.done(job_id)
    assert job["attempt"] == 2
    await assert_same(servers, api, source, copy)


async def test_a_link_that_is_cut_is_found_again(servers: Servers, api: Api, source: str) -> None:
    one, _ = servers
    copy, job_id = await begin_copy(servers, api, source)
    one.shell("ip link set eth1 down")
    try:
        assert await trouble(api, job_id) == "PEER_UNREACHABLE"
    finally:
        one.shell("ip link set eth1 up")
    job = await api.done(job_id)
    assert job["attempt"] > 1
    await assert_same(servers, api, source, copy)
