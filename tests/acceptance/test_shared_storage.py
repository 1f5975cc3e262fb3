"""Storage is shared: ten copies of one source on one server take the space of one, and a sync of
all ten takes the space and the wire bytes of one increment.

On zfs the space is the root's `used`. On dir a live tree is a copy (`du` counts it so where the
filesystem has reflinks, too): there it is the snapshots below the live trees that are stored once.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest

from tests.acceptance.album import Album, write_file
from tests.acceptance.cluster import Cluster, MakeCluster
from tests.acceptance.space import MIB, doctors_are_content, falls_below, used_bytes

COPIES = 10
TREE_BYTES = 12 * MIB
REST_BYTES = 2 * MIB  # of the tree, beside
MORE_BYTES = 8 * MIB
MESSAGE_BYTES = 64 << 10  # what a job that ships nothing may cost on the wire
OWN_BYTES = 512 << 10  # what a copy takes of its own: its identity, and what describes it

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def cluster(make_cluster: MakeCluster) -> Cluster:
    """Two servers, each with room for several jobs at once."""
    return make_cluster(2, {"transfer": {"max_concurrent": 4}})


@pytest.fixture
async def album(cluster: Cluster) -> AsyncIterator[Album]:
    async with cluster.api() as api:
        yield Album(cluster, api)


@pytest.mark.parametrize("number", [0, 1], ids=["same-server", "other-server"])
async def test_ten_copies_take_the_space_of_one(
    cluster: Cluster, album: Album, number: int
) -> None:
    """And a sync of all ten that of one increment, which travels once."""
    api, zfs = album.api, cluster.zfs
    server_id = cluster.daemons[number].server_id
    source = await album.source(f"ten-{number}")
    await write_file(api, source, "data", os.urandom(TREE_BYTES))

    first, _ = await api.copy(source, server_id)
    before = used_bytes(cluster, number)
    started = [await api.start_copy(source, server_id) for _ in range(COPIES - 1)]
    jobs = [await api.done(copy.job_id) for copy in started]
    copies = [first, *(copy.container_id for copy in started)]
    assert sum(job["result"]["bytes_wire"] for job in jobs) <= COPIES * MESSAGE_BYTES
    each_bytes = OWN_BYTES if zfs else OWN_BYTES + TREE_BYTES + REST_BYTES
    await falls_below(cluster, number, before + COPIES * each_bytes)

    await write_file(api, source, "more", os.urandom(MORE_BYTES))
    before = used_bytes(cluster, number)
    started = [await api.start_sync(copy) for copy in copies]
    jobs = [await api.done(sync.job_id) for sync in started]
    wire_bytes = sum(job["result"]["bytes_wire"] for job in jobs)
    shipped_bytes = MORE_BYTES if number else 0
    assert shipped_bytes <= wire_bytes <= shipped_bytes + COPIES * MESSAGE_BYTES
    each_bytes = OWN_BYTES if zfs else OWN_BYTES + MORE_BYTES
    stored_bytes = shipped_bytes if zfs else MORE_BYTES
    await falls_below(cluster, number, before + stored_bytes + COPIES * each_bytes)

    for copy in copies:
        await album.assert_same(source, copy)


async def test_what_two_containers_stand_on_travels_once(cluster: Cluster, album: Album) -> None:
    """To a server that has nothing of either yet."""
    api, there = album.api, cluster.daemons[1].server_id
    source = await album.source("ancestor")
    await write_file(api, source, "data", os.urandom(TREE_BYTES))
    other, _ = await api.copy(source, cluster.daemons[0].server_id)
    await write_file(api, other, "own", os.urandom(MIB))
    started = [await api.start_copy(one, there) for one in (source, other)]
    jobs = [await api.done(copy.job_id) for copy in started]
    wire_bytes = sum(job["result"]["bytes_wire"] for job in jobs)
    shipped_bytes = TREE_BYTES + MIB
    assert shipped_bytes < wire_bytes < shipped_bytes + REST_BYTES + 2 * MESSAGE_BYTES
    for one, copy in zip((source, other), started, strict=True):
        await album.assert_same(one, copy.container_id)


async def test_the_doctors_are_content(cluster: Cluster) -> None:
    """After all this."""
    await doctors_are_content(cluster)
