"""Cancel, SIGTERM and the death of whole families in the middle of a transfer; and what a peer
may not have while one goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil
import pytest

from daemon.config import load
from daemon.model import generation_path, hold_tag, new_id, snapshot_name
from daemon.store import containers, jobs, servers
from daemon.store.database import Database
from daemon.worker import connector
from tests.acceptance import trees
from tests.acceptance.api import Api, Refused, Started
from tests.acceptance.cluster import CHILDREN
from tests.acceptance.space import forest_of
from tests.fault.boundaries import FreezingCluster, MakeCluster
from tests.fault.disturbing import (
    POLL_SECONDS,
    assert_clean,
    assert_same,
    halted,
    in_the_middle,
    kill_of,
    source_on_a,
    stale_copy,
)
from transfer.errors import PeerRefused

TREE_BYTES = 10 << 20
LITTLE_BYTES = 1 << 20
RESTART_SECONDS = 60.0
ORPHAN_SECONDS = 60.0  # 2 are promised, on a machine that is not busy with other tests


@pytest.fixture(scope="module")
def cluster_type() -> type[FreezingCluster]:
    """One whose daemons start their children as users have it."""
    return FreezingCluster


@pytest.fixture(scope="module")
def cluster(make_cluster: MakeCluster) -> FreezingCluster:
    """Two servers, a and b."""
    return make_cluster(2)


@pytest.fixture
async def api(cluster: FreezingCluster) -> AsyncIterator[Api]:
    async with cluster.api() as api:
        yield api


@asynccontextmanager
async def _copying(
    cluster: FreezingCluster, api: Api, name: str
) -> AsyncIterator[tuple[str, Started]]:
    """A source on a, and a copy to b that is in the middle for as long as the body runs."""
    source = await source_on_a(cluster, name, TREE_BYTES)
    with halted(cluster):
        started = await api.start_copy(source, cluster.daemons[1].server_id)
        await in_the_middle(api, started.job_id)
        yield source, started


async def _cancel(api: Api, job_id: str) -> None:
    await api.call("POST", f"/jobs/{job_id}/cancel")
    job = await api.wait(job_id)
    assert job["state"] == "cancelled"
    assert job["error"]["code"] == "CANCELLED"


async def test_cancel_a_first_copy(cluster: FreezingCluster, api: Api) -> None:
    async with _copying(cluster, api, "cancel-copy") as (source, started):
        await _cancel(api, started.job_id)
    copy = await api.container(started.container_id)
    assert copy["status"] == "error"
    assert copy["status_reason"]
    await assert_clean(cluster)

    again = await api.sync(started.container_id)
    assert again["type"] == "copy"
    assert (await api.container(started.container_id))["status_reason"] is None
    await assert_same(api, cluster, source, started.container_id)


async def test_cancel_a_sync(cluster: FreezingCluster, api: Api) -> None:
    """The copy stays as it was, and the next sync brings it up to date."""
    source, copy = await stale_copy(cluster, api, "cancel-sync", LITTLE_BYTES, TREE_BYTES)
    storage, tree = await api.storage(copy), trees.walk(await api.rootfs(copy))

    with halted(cluster):
        sync = await api.start_sync(copy)
        await in_the_middle(api, sync.job_id)
        assert (await api.container(copy))["status"] == "copying"
        await _cancel(api, sync.job_id)
    assert (await api.container(copy))["status"] == "running"
    assert (await api.storage(copy))["generation"] == storage["generation"]
    assert trees.walk(await api.rootfs(copy)) == tree
    await assert_clean(cluster)

    await api.sync(copy)
    await assert_same(api, cluster, source, copy)


async def test_the_switch_is_too_late_for_a_cancel(cluster: FreezingCluster, api: Api) -> None:
    async with _copying(cluster, api, "cancel-late") as (source, started):
        db = Database(load(str(cluster.daemons[1].config_path), {}).database.url)
        async with db.write() as tx:
            job = await jobs.get(tx, started.job_id)
            assert job is not None
            await jobs.save(tx, job, step="switch")
        await db.close()
        with pytest.raises(Refused) as refused:
            await api.call("POST", f"/jobs/{started.job_id}/cancel")
    assert (refused.value.status, refused.value.code) == (409, "JOB_NOT_CANCELLABLE")
    await api.done(started.job_id)
    await assert_same(api, cluster, source, started.container_id)


@pytest.mark.parametrize("number", [0, 1], ids=["source", "target"])
async def test_sigterm(cluster: FreezingCluster, number: int) -> None:
    """A daemon ends well in the middle of a transfer; the job goes on when it is back."""
    daemon = cluster.daemons[number]
    async with cluster.api(1 - number) as api:
        async with _copying(cluster, api, f"sigterm-{number}") as (source, started):
            process = daemon._process
            assert process is not None
            daemon.stop()  # fails where a child lives on, and kills what does not end
            assert process.returncode == 0
            assert (await api.job(started.job_id))["state"] in ("queued", "running")
        daemon.start()
        await api.done(started.job_id)
        await assert_same(api, cluster, source, started.container_id)


async def test_a_family_ends_with_its_daemon(cluster: FreezingCluster, api: Api) -> None:
    """Also who hangs, and cannot notice that there is no daemon: nobody else would end it, for the
    systemd unit leaves children alone."""
    async with _copying(cluster, api, "orphans") as (source, started):
        family: list[psutil.Process] = []
        for daemon in cluster.daemons:
            children = psutil.Process(daemon.pid).children(recursive=True)
            assert {verb for verb in CHILDREN if daemon.children(verb)} == set(CHILDREN)
            family += children
        for child in psutil.Process(cluster.daemons[0].pid).children(recursive=True):
            child.suspend()
        for daemon in cluster.daemons:
            psutil.Process(daemon.pid).kill()
        _, alive = psutil.wait_procs(family, ORPHAN_SECONDS)
    for daemon in cluster.daemons:
        daemon.kill()
        daemon.start()
    assert not alive
    await api.done(started.job_id)
    await assert_same(api, cluster, source, started.container_id)


async def test_dead_children_are_replaced(cluster: FreezingCluster, api: Api) -> None:
    daemon = cluster.daemons[0]
    source = await source_on_a(cluster, "children", LITTLE_BYTES)
    for verb in CHILDREN:
        old = {process.pid for process in daemon.children(verb)}
        assert old
        kill_of(daemon, verb)
        if verb == "worker":  # a new one comes when there is work
            await api.copy(source)
        deadline = time.monotonic() + RESTART_SECONDS
        while not ({process.pid for process in daemon.children(verb)} - old):
            assert time.monotonic() < deadline, f"no new {verb}"
            await asyncio.sleep(POLL_SECONDS)
    await api.copy(source, cluster.daemons[1].server_id)


async def test_what_a_peer_may_not_have(cluster: FreezingCluster, api: Api) -> None:
    """Server b has a good key; a's exporter judges each request by the job that it names."""
    here, there = cluster.daemons
    other = await source_on_a(cluster, "not-yours", LITTLE_BYTES)
    _, ended = await api.copy(other, there.server_id)
    near = await api.start_copy(other)
    await api.done(near.job_id)
    async with _copying(cluster, api, "yours") as (source, started):
        config = load(str(there.config_path), {})
        db = Database(config.database.url)
        async with db.read() as tx:
            server = await servers.get(tx, here.server_id)
            stranger = await containers.get(tx, other)
            owner = await containers.get(tx, source)
        await db.close()
        assert server and stranger and stranger.generation_id and owner and owner.generation_id
        strange = generation_path(other, stranger.generation_id)
        foreign = (await forest_of(here)).datasets[strange].head
        assert foreign
        guid = foreign.guid

        connect = connector(config)
        for job_id in (new_id(), str(ended["id"]), near.job_id):
            async with connect(server, job_id) as peer:
                with pytest.raises(PeerRefused):
                    await peer.traits()
        async with connect(server, started.job_id) as peer:
            await peer.traits()
            own = (
                (await forest_of(here)).datasets[generation_path(source, owner.generation_id)].head
            )
            assert own
            assert (await peer.lineage([own.guid])).find(own.guid)
            for request in (
                peer.lineage([guid]),
                peer.snapshot(strange, snapshot_name(new_id()), hold_tag(started.job_id)),
                peer.hold([guid], hold_tag(started.job_id)),
                peer.tree_root(guid),
            ):
                with pytest.raises(PeerRefused):
                    await request
    await api.done(started.job_id)
    await assert_clean(cluster)
