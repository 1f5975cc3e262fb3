"""A disk that is full on the target, in mid-receive and when the new generation is made: the job
says so, what is live and the source stay as they are, and with room again a sync works."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance import trees
from tests.acceptance.api import Api, Json
from tests.acceptance.space import until
from tests.fault.boundaries import frozen, order
from tests.fault.disturbing import (
    assert_clean,
    assert_same,
    halted,
    in_the_middle,
    source_on_a,
    stale_copy,
)
from tests.fault.filling import FillingCluster, Tmpfs
from transfer.storage.private_zfs import PrivateZfs

LITTLE_BYTES = 1 << 20
MORE_BYTES = 12 << 20

AT_THE_SWITCH = {
    "clone": "after remember generation generation_of 1",
    "commit": "before step switch 1",
}


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest, backend: str) -> Iterator[FillingCluster]:
    zfs: PrivateZfs | None = request.getfixturevalue("zfs_daemon") if backend == "zfs" else None
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hoody-")))
        cluster = FillingCluster(directory, backend, 2, zfs=zfs)
        if isinstance(cluster.disk, Tmpfs):
            stack.enter_context(cluster.disk.mounted())
        yield stack.enter_context(cluster)


async def seen(api: Api, container_id: str) -> tuple[object, ...]:
    """All that a user sees of a container that is left alone."""
    return (
        (await api.container(container_id))["status"],
        (await api.storage(container_id))["generation"],
        trees.walk(await api.rootfs(container_id)),
    )


def assert_full(job: Json) -> None:
    """The job has failed for want of room, and is not tried again in vain."""
    assert job["state"] == "failed", job
    assert job["error"]["code"] == "INSUFFICIENT_STORAGE", job
    assert not job["error"]["retryable"]


async def assert_room(api: Api, cluster: FillingCluster) -> None:
    """All is clean, and the server's next heartbeat has told that there is room again."""
    await assert_clean(cluster)
    where = f"/servers/{cluster.target.server_id}"
    await until(
        lambda: api.call("GET", where),
        lambda found: found["storage"]["available_bytes"] > 2 * MORE_BYTES,
    )


async def test_full_in_mid_receive_of_a_sync(cluster: FillingCluster) -> None:
    async with cluster.api() as api:
        source, copy_id = await stale_copy(cluster, api, "sync", LITTLE_BYTES, MORE_BYTES)
        before = [await seen(api, one) for one in (source, copy_id)]
        with halted(cluster):
            sync = await api.start_sync(copy_id)
            await in_the_middle(api, sync.job_id)
            with cluster.full():
                cluster.go_on()
                assert_full(await api.wait(sync.job_id))
                assert [await seen(api, one) for one in (source, copy_id)] == before
        await assert_room(api, cluster)
        await api.sync(copy_id)
        await assert_same(api, cluster, source, copy_id)


async def test_full_in_mid_receive_of_a_first_copy(cluster: FillingCluster) -> None:
    """The copy is in error and says why; a sync makes it."""
    async with cluster.api() as api:
        source = await source_on_a(cluster, "copy", MORE_BYTES)
        before = await seen(api, source)
        with halted(cluster):
            started = await api.start_copy(source, cluster.target.server_id)
            await in_the_middle(api, started.job_id)
            with cluster.full():
                cluster.go_on()
                assert_full(await api.wait(started.job_id))
        copy = await api.container(started.container_id)
        assert copy["status"] == "error"
        assert copy["status_reason"]
        assert await seen(api, source) == before
        await assert_room(api, cluster)
        await api.sync(started.container_id)
        await assert_same(api, cluster, source, started.container_id)


@pytest.mark.parametrize("place", AT_THE_SWITCH)
async def test_full_at_the_switch(cluster: FillingCluster, place: str) -> None:
    """All has come, and there is no room for the new generation: the old one stays. Where it has
    been made already, the switch needs no room."""
    async with cluster.api() as api:
        source, copy_id = await stale_copy(
            cluster, api, f"switch-{place}", LITTLE_BYTES, MORE_BYTES
        )
        before = [await seen(api, one) for one in (source, copy_id)]
        order(cluster, f"sync-{copy_id}", AT_THE_SWITCH[place])
        sync = await api.start_sync(copy_id)
        stopped = await frozen(cluster, f"sync-{copy_id}")
        with cluster.full():
            stopped.resume()
            job = await api.wait(sync.job_id)
            if place == "clone":
                assert_full(job)
                assert [await seen(api, one) for one in (source, copy_id)] == before
            else:
                assert job["state"] == "succeeded", job
        await assert_room(api, cluster)
        if place == "clone":
            await api.sync(copy_id)
        await assert_same(api, cluster, source, copy_id)
