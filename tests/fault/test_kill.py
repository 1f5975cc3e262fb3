"""kill -9 in the middle of a transfer: the job succeeds without help, and nothing is left over."""

from __future__ import annotations

import pytest

from tests.acceptance.cluster import Cluster
from tests.fault.boundaries import FreezingCluster, MakeCluster
from tests.fault.disturbing import (
    ON_THE_WAY_BYTES,
    STRIKES,
    TREE_BYTES,
    Strike,
    assert_clean,
    assert_same,
    halted,
    in_the_middle,
    kill_exporters,
    kill_source,
    kill_target,
    kill_worker,
    next_attempt,
    source_on_a,
    stale_copy,
    watcher_of,
)

SHARES = (0.1, 0.5, 0.9)
LITTLE_BYTES = 1 << 20
MORE_BYTES = 9 << 20
LARGE_BYTES = 112 << 20
SENT_TWICE_BYTES = 64 << 20
UNCOUNTED_BYTES = 8 << 20  # what an attempt moved in the second before its end by -9


@pytest.fixture(scope="module")
def cluster(make_cluster: MakeCluster) -> FreezingCluster:
    """Two servers, a and b."""
    return make_cluster(2)


def _name(value: Strike | tuple[float, ...]) -> str:
    if isinstance(value, tuple):
        return "-".join(f"{share:.0%}" for share in value)
    return value.__name__


# One copy is struck again and again; but a source that is away for seconds takes several tries
# of a job, and the waits between them grow: there it is one copy for each.
@pytest.mark.parametrize(
    ("strike", "shares"),
    [
        *((strike, SHARES) for strike in (kill_target, kill_worker, kill_exporters)),
        *((kill_source, (share,)) for share in SHARES),
    ],
    ids=_name,
)
async def test_a_copy_succeeds(
    cluster: FreezingCluster, strike: Strike, shares: tuple[float, ...]
) -> None:
    source = await source_on_a(cluster, f"copy-{_name(strike)}-{_name(shares)}")
    async with cluster.api(watcher_of(strike)) as api:
        with halted(cluster, int(shares[0] * TREE_BYTES)):
            started = await api.start_copy(source, cluster.daemons[1].server_id)
            kept_bytes = 0  # by earlier attempts: a dir storage goes on, zfs begins anew
            before = None
            for share in shares:
                wanted = int(share * TREE_BYTES) - kept_bytes
                cluster.halt(wanted + ON_THE_WAY_BYTES)
                job = await in_the_middle(api, started.job_id, wanted, before)
                strike(cluster)
                before = job["progress"]
                kept_bytes += 0 if cluster.zfs else before["bytes_done"]
                await next_attempt(api, started.job_id, job["attempt"])
        job = await api.done(started.job_id)
        assert job["result"]["bytes_logical"] > 0, "the last strike came too late"
        await assert_same(api, cluster, source, started.container_id)


@pytest.mark.parametrize("strike", STRIKES, ids=_name)
async def test_a_sync_succeeds(cluster: FreezingCluster, strike: Strike) -> None:
    """Struck at half of its bytes."""
    async with cluster.api(watcher_of(strike)) as api:
        sizes = (LITTLE_BYTES, MORE_BYTES)
        source, copy = await stale_copy(cluster, api, f"sync-{_name(strike)}", *sizes)
        with halted(cluster, MORE_BYTES // 2):
            sync = await api.start_sync(copy)
            job = await in_the_middle(api, sync.job_id, MORE_BYTES // 2)
            strike(cluster)
        await next_attempt(api, sync.job_id, job["attempt"])
        job = await api.done(sync.job_id)
        assert job["result"]["strategy"] == ("incremental" if cluster.zfs else "content-diff")
        await assert_same(api, cluster, source, copy)


async def test_nothing_is_left(cluster: Cluster) -> None:
    """Of all that was struck; what is half-made or held does not go by itself."""
    await assert_clean(cluster)


@pytest.mark.parametrize("backend", ["dir"], indirect=True)
async def test_little_is_sent_twice(make_cluster: MakeCluster) -> None:
    """A dir storage keeps what has come: the tree is so large that beginning anew would show.
    zfs-fuse has no resume tokens."""
    cluster = make_cluster(2)
    middle_bytes = int(0.75 * LARGE_BYTES)
    source = await source_on_a(cluster, "large", LARGE_BYTES)
    async with cluster.api() as api:
        with halted(cluster, middle_bytes):
            started = await api.start_copy(source, cluster.daemons[1].server_id)
            await in_the_middle(api, started.job_id, middle_bytes)
            kill_target(cluster)
        job = await api.done(started.job_id)
        wire_bytes = job["result"]["bytes_wire"]
        assert LARGE_BYTES - UNCOUNTED_BYTES < wire_bytes <= LARGE_BYTES + SENT_TWICE_BYTES
        await assert_same(api, cluster, source, started.container_id)
    await assert_clean(cluster)
