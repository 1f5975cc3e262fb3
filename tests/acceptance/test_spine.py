"""The product's spine on real daemons: take in, copy, change, sync, compare; and a peer gone bad.

Every test runs on both backends. Trees are compared twice, by a walk and by rsync (trees.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from daemon import keys
from tests.acceptance import trees
from tests.acceptance.api import Api, Json
from tests.acceptance.cluster import Cluster, Daemon, MakeCluster

SLACK_BYTES = 64 << 10
DAY_BYTES = 300_000
RESTART_SECONDS = 60.0
COLLECT_SECONDS = 150.0
POLL_SECONDS = 0.05


@pytest.fixture
async def source(cluster: Cluster, api: Api, request: pytest.FixtureRequest) -> str:
    """A container on server a, made of a tree with all kinds of things in it."""
    tree = cluster.tree(request.node.originalname)
    trees.make(tree)
    container_id = await api.create(tree)
    trees.assert_equal(tree, await api.rootfs(container_id), zfs=cluster.zfs)
    return container_id


async def _assert_same(api: Api, cluster: Cluster, source_id: str, copy_id: str) -> None:
    source, copy = await api.rootfs(source_id), await api.rootfs(copy_id)
    assert source != copy
    trees.assert_equal(source, copy, zfs=cluster.zfs)


async def test_copies_follow_their_source(cluster: Cluster, api: Api, source: str) -> None:
    near, near_job = await api.copy(source)
    far, far_job = await api.copy(source, cluster.daemons[1].server_id)

    assert near_job["result"]["strategy"] == "clone"
    assert near_job["result"]["bytes_wire"] == 0
    assert far_job["result"]["strategy"] == "full"
    for copy in (near, far):
        assert (await api.container(copy))["status"] == "running"
        await _assert_same(api, cluster, source, copy)

    changed_bytes = trees.change(await api.rootfs(source))
    near_job, far_job = await api.sync(near), await api.sync(far)

    assert near_job["result"]["strategy"] == "clone"
    assert near_job["result"]["bytes_wire"] == 0
    assert far_job["result"]["strategy"] == ("incremental" if cluster.zfs else "content-diff")
    assert 0 < far_job["result"]["bytes_wire"] <= 1.5 * changed_bytes + 2 * SLACK_BYTES
    for copy in (near, far):
        assert (await api.container(copy))["status"] == "running"
        await _assert_same(api, cluster, source, copy)


async def test_copies_have_an_identity_of_their_own(
    cluster: Cluster, api: Api, source: str
) -> None:
    pair = keys.generate("source", "ecdsa")
    host_key = Path(await api.rootfs(source), "etc/ssh/ssh_host_ecdsa_key")
    host_key.write_text(pair.private_text)
    copy, _job = await api.copy(source, cluster.daemons[1].server_id)
    container, rootfs = await api.container(copy), Path(await api.rootfs(copy))

    own = {
        "etc/hostname": f"{container['name']}\n",
        "etc/machine-id": "",
        "etc/ssh/ssh_host_ecdsa_key": (rootfs / "etc/ssh/ssh_host_ecdsa_key").read_text(),
        "root/.ssh/authorized_keys": f"{container['ssh_public_key']}\n",
    }
    assert own["etc/ssh/ssh_host_ecdsa_key"] != pair.private_text
    assert container["ssh_public_key"].endswith(f" {copy}")
    assert {path: (rootfs / path).read_text() for path in own} == own

    trees.change(await api.rootfs(source))
    await api.sync(copy)
    rootfs = Path(await api.rootfs(copy))
    assert {path: (rootfs / path).read_text() for path in own} == own


async def test_a_second_copy_ships_nothing(cluster: Cluster, api: Api, source: str) -> None:
    server = cluster.daemons[1].server_id
    _first, job = await api.copy(source, server)
    assert job["result"]["bytes_wire"] > SLACK_BYTES
    second, job = await api.copy(source, server)
    assert job["result"]["bytes_wire"] <= SLACK_BYTES
    await _assert_same(api, cluster, source, second)


async def test_nothing_happens_where_nothing_changed(
    cluster: Cluster, api: Api, source: str
) -> None:
    near, _ = await api.copy(source)
    far, _ = await api.copy(source, cluster.daemons[1].server_id)
    for copy in (near, far, near, far):
        before = await api.storage(copy)
        job = await api.sync(copy)
        assert job["result"]["strategy"] == "unchanged"
        assert job["result"]["bytes_wire"] <= SLACK_BYTES
        assert job["result"]["downtime_seconds"] == 0
        assert (await api.storage(copy))["generation"] == before["generation"]
        assert (await api.container(copy))["status"] == "running"


async def test_a_sync_overwrites_what_was_written_locally(
    cluster: Cluster, api: Api, source: str
) -> None:
    near, _ = await api.copy(source)
    far, _ = await api.copy(source, cluster.daemons[1].server_id)
    for changed in (False, True):
        if changed:
            trees.change(await api.rootfs(source), seed=3)
        for copy in (near, far):
            rootfs = Path(await api.rootfs(copy))
            (rootfs / "srv/text").write_text("written on the copy")
            (rootfs / "var/mine").mkdir()
            (rootfs / "opt/a/d00/f0000").unlink()
            job = await api.sync(copy)
            assert (job["result"]["strategy"] == "unchanged") is not changed
            await _assert_same(api, cluster, source, copy)


async def test_a_copy_works_until_the_switch(cluster: Cluster, api: Api, source: str) -> None:
    """A file held open and written in the copy answers all along and does not block the switch."""
    copy, _ = await api.copy(source, cluster.daemons[1].server_id)
    Path(await api.rootfs(source), "srv/more").write_bytes(Random(7).randbytes(4 << 20))

    held = os.open(Path(await api.rootfs(copy), "srv/held"), os.O_RDWR | os.O_CREAT)
    with contextlib.closing(os.fdopen(held, "r+b", buffering=0)) as file:
        waiting = asyncio.create_task(api.sync(copy))
        lines = 0
        while not waiting.done():
            file.write(b"still here\n")
            lines += 1
            await asyncio.sleep(POLL_SECONDS)
        await waiting
        file.seek(0)
        assert file.read() == b"still here\n" * lines
    await _assert_same(api, cluster, source, copy)


async def test_many_syncs_at_once(cluster: Cluster, api: Api, source: str) -> None:
    """Syncs of several copies, asked for together, ship the change once to each server."""
    server = cluster.daemons[1].server_id
    copies = [(await api.copy(source, server))[0] for _ in range(3)]
    changed_bytes = trees.change(await api.rootfs(source), seed=4)
    started = [await api.start_sync(copy) for copy in copies]
    jobs = [await api.done(sync.job_id) for sync in started]
    wire_bytes = sum(job["result"]["bytes_wire"] for job in jobs)
    assert wire_bytes <= changed_bytes + 3 * SLACK_BYTES
    for copy in copies:
        await _assert_same(api, cluster, source, copy)


async def test_deleting_a_source_leaves_its_copies(cluster: Cluster, api: Api, source: str) -> None:
    """Also those that share its blocks, and while they are in use."""
    near, _ = await api.copy(source)
    far, _ = await api.copy(source, cluster.daemons[1].server_id)
    roots = [await api.rootfs(copy) for copy in (near, far)]
    before = [trees.walk(rootfs) for rootfs in roots]
    source_root = await api.rootfs(source)

    with Path(roots[0], "srv/text").open("rb") as held:
        await api.delete(source)
        async with asyncio.timeout(COLLECT_SECONDS):
            while os.path.lexists(source_root):
                assert os.path.lexists(Path(roots[0], "srv/text"))
                await asyncio.sleep(POLL_SECONDS)
        assert held.read(6) == b"a line"
    assert [trees.walk(rootfs) for rootfs in roots] == before
    for copy in (near, far):
        assert (await api.container(copy))["status"] == "running"
        assert (await api.container(copy))["sync_state"] == "orphaned"


@pytest.fixture(scope="module")
def impatient(make_cluster: MakeCluster) -> Cluster:
    """Two servers that give up on a peer after the second try."""
    return make_cluster(2, {"timing": {"retry_attempts": 2}})


async def _fails(api: Api, cluster: Cluster, source: str, code: str) -> tuple[str, Json]:
    """A copy from server b to a that ends with this code; the copy's id and the job."""
    started = await api.start_copy(source, cluster.daemons[0].server_id)
    job = await api.wait(started.job_id)
    assert job["state"] == "failed", job
    assert job["error"]["code"] == code
    copy = await api.container(started.container_id)
    assert copy["status"] == "error"
    assert copy["status_reason"]
    return started.container_id, job


async def test_a_peer_that_is_down(impatient: Cluster) -> None:
    here, there = impatient.daemons
    tree = impatient.tree("peer-down")
    trees.make(tree, files=20)
    async with impatient.api(1) as api:
        source = await api.create(tree)
    async with impatient.api(0) as api:
        there.kill()
        try:
            copy, job = await _fails(api, impatient, source, "PEER_UNREACHABLE")
        finally:
            there.start()
        assert job["error"]["retryable"]
        assert job["attempt"] == 2
        trees.assert_equal(tree, await api.rootfs(source), zfs=impatient.zfs)
        assert (await api.container(source))["status"] == "running"

        again = await api.sync(copy)  # of a copy in error: the copy, once more
        assert again["type"] == "copy"
        assert (await api.container(copy))["server_id"] == here.server_id
        await _assert_same(api, impatient, source, copy)


@contextlib.contextmanager
def _other_host_key(daemon: Daemon) -> Iterator[None]:
    """Exporters with a key that the catalogue does not have, as after an attack."""
    path = daemon.state_dir / "peer_key"
    own = path.read_text()
    path.write_text(keys.generate("other").private_text)
    try:
        _renew_exporters(daemon)
        yield
    finally:
        path.write_text(own)
        _renew_exporters(daemon)


def _renew_exporters(daemon: Daemon) -> None:
    old = daemon.children("exporter")
    assert old
    for process in old:
        process.kill()
        process.wait(RESTART_SECONDS)
    deadline = time.monotonic() + RESTART_SECONDS
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(daemon.peer_address, RESTART_SECONDS).close()
            return
        assert time.monotonic() < deadline, "no new exporter"
        time.sleep(POLL_SECONDS)


async def test_a_peer_with_another_host_key(impatient: Cluster) -> None:
    tree = impatient.tree("other-key")
    trees.make(tree, files=20)
    async with impatient.api(1) as api:
        source = await api.create(tree)
    async with impatient.api(0) as api:
        with _other_host_key(impatient.daemons[1]):
            copy, job = await _fails(api, impatient, source, "PEER_HOST_KEY_MISMATCH")
        assert job["attempt"] == 1
        assert not job["error"]["retryable"]
        trees.assert_equal(tree, await api.rootfs(source), zfs=impatient.zfs)
        await api.sync(copy)
        await _assert_same(api, impatient, source, copy)


async def test_the_second_hop_costs_a_day_of_changes(make_cluster: MakeCluster) -> None:
    """prod -> staging -> dev on three servers, prod alone being written, for three days."""
    cluster = make_cluster(3)
    trees.make(cluster.tree("prod"))
    async with cluster.api() as api:
        prod = await api.create(cluster.tree("prod"))
        staging, _ = await api.copy(prod, cluster.daemons[1].server_id)
        dev, _ = await api.copy(staging, cluster.daemons[2].server_id)
        for day in range(3):
            fresh = Path(await api.rootfs(prod), f"srv/day{day}")
            fresh.write_bytes(Random(day).randbytes(DAY_BYTES))
            first, second = await api.sync(staging), await api.sync(dev)
            assert first["result"]["bytes_wire"] <= DAY_BYTES + SLACK_BYTES, f"day {day}"
            assert second["result"]["bytes_wire"] <= DAY_BYTES + SLACK_BYTES, f"day {day}"
            await _assert_same(api, cluster, prod, dev)


async def test_stopped_daemons_leave_nothing_running(impatient: Cluster) -> None:
    """`stop` and `kill` fail where a child outlives its daemon."""
    daemon = impatient.daemons[0]
    for end in (daemon.stop, daemon.kill):
        end()
        daemon.start()
