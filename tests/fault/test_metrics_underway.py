"""What the metrics say amid a transfer, when it stalls, and when those who count die."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from tests.acceptance.api import Api, Json, Started
from tests.acceptance.cluster import Daemon
from tests.acceptance.scraped import Scrape
from tests.fault.boundaries import FreezingCluster, MakeCluster
from tests.fault.disturbing import POLL_SECONDS, halted, in_the_middle, source_on_a

# What differs between the backends is counted to the end in tests/acceptance/test_metrics.py.
pytestmark = pytest.mark.parametrize("backend", ["dir"], indirect=True, scope="module")

HANG_SECONDS = 120
STALL_SECONDS = 3
LAST_BYTES = 64 << 10
MOVED = "hoody_transfer_bytes_total"


@pytest.fixture(scope="module")
def cluster(make_cluster: MakeCluster) -> FreezingCluster:
    """Two servers, a and b, that give a silent transfer up soon."""
    return make_cluster(2, settings={"transfer": {"stall_seconds": STALL_SECONDS}})


@pytest.fixture(scope="module")
def patient(make_cluster: MakeCluster) -> FreezingCluster:
    """Two servers that do not."""
    return make_cluster(2)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(HANG_SECONDS):
        while not condition():
            await asyncio.sleep(POLL_SECONDS)


@pytest.fixture
async def api(patient: FreezingCluster) -> AsyncIterator[Api]:
    async with patient.api() as api:
        yield api


def active(daemon: Daemon) -> dict[tuple[str, ...], float]:
    return Scrape(daemon)("hoody_transfers_active")


async def under_way(cluster: FreezingCluster, api: Api, name: str) -> Started:
    """A copy that is in its middle, and of which both servers have told."""
    a, b = cluster.daemons
    source = await source_on_a(cluster, name)
    started = await api.start_copy(source, b.server_id)
    await in_the_middle(api, started.job_id)
    await until(lambda: active(a) == {("out",): 1} and active(b) == {("in",): 1})
    return started


async def _told_alike(api: Api, daemon: Daemon, job_id: str) -> Json:
    """The halted job, once its record and the server's metrics tell the same of it: what was on
    its way when it was halted is told a little later."""
    async with asyncio.timeout(HANG_SECONDS):
        while True:
            job = await api.job(job_id)
            total, done = (job["progress"][key] for key in ("bytes_total", "bytes_done"))
            seen = Scrape(daemon)
            came = seen.value(MOVED, direction="in", kind="logical", strategy="full")
            if (seen.value("hoody_transfer_bytes_remaining"), came) == (total - done, done):
                return job
            await asyncio.sleep(POLL_SECONDS)


async def test_a_transfer_is_seen_as_it_goes_on(patient: FreezingCluster, api: Api) -> None:
    a, b = patient.daemons
    with halted(patient):
        started = await under_way(patient, api, "seen")
        job = await _told_alike(api, b, started.job_id)
        assert Scrape(a).value("hoody_transfer_bytes_remaining") == 0
        assert job["progress"]["bytes_done"] > 0
        assert Scrape(b)("hoody_jobs") == {("running", "copy"): 1}
        assert Scrape(a)("hoody_jobs") == {}
    await api.done(started.job_id)
    await until(lambda: active(a) == active(b) == {})
    assert Scrape(b).value("hoody_transfer_bytes_remaining") == 0


@pytest.mark.parametrize("verb", ["worker", "exporter"])
async def test_who_dies_has_no_transfers_any_more(
    patient: FreezingCluster, api: Api, verb: str
) -> None:
    """What it had told stays counted."""
    a, b = patient.daemons
    with halted(patient):
        started = await under_way(patient, api, verb)
        of, direction = (b, "in") if verb == "worker" else (a, "out")
        before = Scrape(of).value(MOVED, direction=direction, kind="wire")
        assert before > 0
        for process in of.children(verb):
            process.kill()
        await api.call("POST", f"/jobs/{started.job_id}/cancel")
        await api.wait(started.job_id)
        await until(lambda: active(a) == active(b) == {})
        assert Scrape(b).value("hoody_transfer_bytes_remaining") == 0
        assert Scrape(of).value(MOVED, direction=direction, kind="wire") >= before
    ends = Scrape(b)("hoody_jobs_total", type="copy", outcome="cancelled")
    assert sum(ends.values()) >= 1


async def test_a_stall_is_counted_on_both_sides(cluster: FreezingCluster) -> None:
    a, b = cluster.daemons
    stalls = "hoody_transfer_stalls_total"
    assert Scrape(a).value(stalls) == Scrape(b).value(stalls) == 0
    async with cluster.api() as api:
        with halted(cluster):
            source = await source_on_a(cluster, "stalled")
            started = await api.start_copy(source, b.server_id)
            await until(lambda: min(Scrape(a).value(stalls), Scrape(b).value(stalls)) > 0)
        job = await api.done(started.job_id)
    assert job["attempt"] > 1
    assert Scrape(b)("hoody_jobs_total", type="copy") == {("succeeded",): 1}
    # Each byte of both attempts once, as the job has counted them, but for a failure's last words.
    moved = pytest.approx(job["progress"]["bytes_wire"], abs=LAST_BYTES)
    assert Scrape(b).value(MOVED, direction="in", kind="wire") == moved
    await until(lambda: Scrape(a).value(MOVED, direction="out", kind="wire") == moved)
