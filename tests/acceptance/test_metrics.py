"""Known work on two servers, and every metric held against it; and a real Prometheus that scrapes
both and answers with the right numbers."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance import trees
from tests.acceptance.api import Api, Json
from tests.acceptance.cluster import Cluster, MakeCluster, Settings
from tests.acceptance.scraped import Labels, Scrape, metrics_address
from tests.ports import free_port
from tests.prometheus import FILES, promtool, scraping

POLL_SECONDS = 0.1
TREE_BYTES = 4 << 20
MORE_BYTES = 1 << 20
HANG_SECONDS = 120
ENDS_SECONDS = 1.0  # a job's times are the catalogue's, to the millisecond


class WatchedCluster(Cluster):
    """One whose metrics have addresses of their own."""

    def _settings_of(self, name: str) -> Settings:
        settings = super()._settings_of(name)
        own = {**settings["server"], "metrics_listen": f"127.0.0.1:{free_port()}"}
        return {**settings, "server": own}


@pytest.fixture(scope="session")
def cluster_type() -> type[Cluster]:
    return WatchedCluster


@dataclass
class Work:
    """What was done: the copies, and by server the jobs that have ended there."""

    source: str
    near: str
    far: str
    jobs: dict[str, list[Json]] = field(default_factory=dict)

    def ends(self, server_id: str) -> Counter[Labels]:
        """How many ended, by outcome and type."""
        return Counter((job["state"], job["type"]) for job in self.jobs[server_id])


async def until(condition: Any) -> None:
    """Waits for what is coming; a test that waits in vain fails by its limit."""
    async with asyncio.timeout(HANG_SECONDS):
        while not condition():
            await asyncio.sleep(POLL_SECONDS)


@pytest.fixture(scope="module")
def cluster(make_cluster: MakeCluster) -> Cluster:
    return make_cluster(2)


async def write(api: Api, container_id: str, name: str, size_bytes: int) -> None:
    path = Path(await api.rootfs(container_id), name)
    path.write_bytes((name.encode() * size_bytes)[:size_bytes])


async def fail_to_create(cluster: Cluster, api: Api) -> None:
    """Only the server itself knows that the directory is not there."""
    fields = {"server_id": cluster.daemons[1].server_id, "project_id": api.project_id}
    data = await api.call("POST", "/containers", source_path=cluster.tree("none"), **fields)
    (job,) = await api.jobs(data["id"], "create")
    assert (await api.wait(job["id"]))["state"] == "failed"
    await api.delete(data["id"])


async def do_the_work(cluster: Cluster, api: Api) -> Work:
    here, there = (daemon.server_id for daemon in cluster.daemons)
    tree = cluster.tree("tree")
    trees.make(tree, files=20, big_bytes=TREE_BYTES)
    source = await api.create(tree)
    near, _ = await api.copy(source, here)
    far, _ = await api.copy(source, there)
    await write(api, source, "more", MORE_BYTES)
    await api.sync(far)
    await api.sync(far)
    taken = await api.snapshot(source)
    await write(api, source, "yet-more", MORE_BYTES)
    await api.restore(source, taken["name"])
    await api.sync(far)
    await api.delete_snapshot(source, taken["name"])
    await fail_to_create(cluster, api)
    gone, _ = await api.copy(source, there)
    await api.delete(gone)
    work = Work(source, near, far)
    for job in (await api.call("GET", "/jobs?limit=100"))["jobs"]:
        work.jobs.setdefault(job["server_id"], []).append(job)
    return work


def check_jobs(scrape: Scrape, jobs: list[Json], ends: Counter[Labels]) -> None:
    assert scrape("hoody_jobs_total") == ends
    assert scrape("hoody_jobs") == {}
    assert scrape.value("hoody_job_queue_oldest_seconds") == 0
    results = [(job, job["result"] or {}) for job in jobs]
    counted = Counter((result.get("strategy", "none"), job["type"]) for job, result in results)
    assert scrape("hoody_job_duration_seconds_count") == counted
    spent = sum(
        (time_of(job["finished_at"]) - time_of(job["started_at"])).total_seconds() for job in jobs
    )
    tolerance = 0.002 * len(jobs)
    assert scrape.value("hoody_job_duration_seconds_sum") == pytest.approx(spent, abs=tolerance)
    downs = [result.get("downtime_seconds") or 0 for _, result in results]
    assert scrape.value("hoody_switch_downtime_seconds_count") == sum(down > 0 for down in downs)
    assert scrape.value("hoody_switch_downtime_seconds_sum") == pytest.approx(sum(downs))


def time_of(text: str) -> datetime:
    return datetime.fromisoformat(text)


def check_transfers(scrape: Scrape, out: Scrape, jobs: list[Json], strategies: set[str]) -> None:
    """What came in is what the jobs say, and what went out of the other server."""
    moved = "hoody_transfer_bytes_total"
    logical = sum((job["result"] or {}).get("bytes_logical", 0) for job in jobs)
    assert scrape.value(moved, direction="in", kind="logical") == logical
    wire = sum((job["progress"] or {}).get("bytes_wire", 0) for job in jobs)
    assert scrape.value(moved, direction="in", kind="wire") == wire
    for kind in ("logical", "wire"):
        assert scrape(moved, direction="in", kind=kind) == out(moved, direction="out", kind=kind)
    assert scrape(moved, direction="in", kind="logical").keys() == {(one,) for one in strategies}
    for one in strategies - {"content-diff"}:
        of_one = [job["result"] or {} for job in jobs]
        steps = [
            step
            for result in of_one
            for step in result.get("steps", [])
            if (step["base"] is None) == (one == "full")
        ]
        came = scrape.value(moved, direction="in", kind="logical", strategy=one)
        assert came == sum(step["bytes_logical"] for step in steps)
    for one in (scrape, out):
        assert one("hoody_transfers_active") == {}
        assert one.value("hoody_transfer_bytes_remaining") == 0
        assert one.value("hoody_transfer_stalls_total") == 0


async def check_copies(api: Api, scrape: Scrape, copy: str) -> None:
    synced_at = time_of((await api.container(copy))["last_synced_at"]).timestamp()
    success = scrape("hoody_sync_last_success_timestamp_seconds")
    assert success == {(copy,): pytest.approx(synced_at, abs=0.001)}


async def test_every_metric_is_what_the_work_was(cluster: Cluster, api: Api) -> None:
    work = await do_the_work(cluster, api)
    a, b = cluster.daemons
    sent = "hoody_transfer_bytes_total"

    def all_told() -> bool:
        here, there = Scrape(a), Scrape(b)
        wire = there(sent, direction="in", kind="wire")
        return here(sent, direction="out", kind="wire") == wire

    await until(all_told)  # an exporter tells twice a second
    here, there = Scrape(a), Scrape(b)
    for daemon, scrape in ((a, here), (b, there)):
        check_jobs(scrape, work.jobs[daemon.server_id], work.ends(daemon.server_id))
        assert len(scrape("hoody_build_info")) == 1
        promtool("check", "metrics", given=scrape.text)
    strategies = {"full", "incremental" if cluster.zfs else "content-diff"}
    check_transfers(there, here, work.jobs[b.server_id], strategies)
    assert there(sent, direction="out") == here(sent, direction="in") == {}
    await check_copies(api, here, work.near)
    await check_copies(api, there, work.far)
    assert [one("hoody_peer_up") for one in (here, there)] == [{("b",): 1}, {("a",): 1}]
    asked = "/api/v1/containers/{id}/copy"
    assert here("hoody_http_requests_total", route=asked) == {("POST", "201"): 3}
    assert here.value("hoody_http_request_duration_seconds_count", route=asked) == 3
    assert there("hoody_http_requests_total", route=asked) == {}
    for server in (await api.call("GET", "/servers"))["servers"]:
        daemon = next(one for one in cluster.daemons if one.server_id == server["id"])
        total = Scrape(daemon).value("hoody_storage_bytes", kind="total")
        assert total == server["storage"]["total_bytes"] > 0


async def test_the_lag_of_a_copy_whose_source_was_written(cluster: Cluster, api: Api) -> None:
    tree = cluster.tree("lagging")
    trees.make(tree, files=3)
    source = await api.create(tree)
    copy, _ = await api.copy(source, cluster.daemons[1].server_id)
    lag = "hoody_sync_lag_seconds"
    assert Scrape(cluster.daemons[1]).value(lag, container_id=copy) == 0
    await write(api, source, "new", 10)
    await api.snapshot(source)  # which notices it
    synced_at = time_of((await api.container(copy))["last_synced_at"])
    age = (datetime.now(synced_at.tzinfo) - synced_at).total_seconds()
    assert Scrape(cluster.daemons[1]).value(lag, container_id=copy) >= age
    await api.sync(copy)
    assert Scrape(cluster.daemons[1]).value(lag, container_id=copy) == 0


@pytest.mark.parametrize("backend", ["dir"], indirect=True, scope="module")
async def test_a_real_prometheus_answers_with_the_right_numbers(
    cluster: Cluster, api: Api, tmp_path: Path
) -> None:
    targets = [metrics_address(daemon) for daemon in cluster.daemons]
    async with scraping(tmp_path, targets) as prometheus, asyncio.timeout(HANG_SECONDS):
        await prometheus.until('sum(up{job="hoody"}) == 2')
        before = sum(Scrape(daemon).value("hoody_jobs_total") for daemon in cluster.daemons)
        tree = cluster.tree("scraped")
        trees.make(tree, files=3)
        source = await api.create(tree)
        for daemon in cluster.daemons:
            await api.copy(source, daemon.server_id)
        await prometheus.until(f"sum(hoody_jobs_total) == {before + 3}")
        ended = await prometheus.query('hoody_jobs_total{type="copy",outcome="succeeded"}')
        found = {labels["instance"]: value for labels, value in ended}
        for daemon in cluster.daemons:
            labels = {"type": "copy", "outcome": "succeeded"}
            mine = Scrape(daemon).value("hoody_jobs_total", **labels)
            assert found[metrics_address(daemon)] == mine
        dashboard = json.loads((FILES / "hoody.dashboard.json").read_text())
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                query = target["expr"].replace("$__rate_interval", "5m").replace("$instance", ".*")
                assert isinstance(await prometheus.query(query), list), query
        assert await prometheus.query('ALERTS{alertname="HoodyPeerDown"}') == []
        cluster.daemons[1].stop()
        (alert,) = await prometheus.until('ALERTS{alertname="HoodyPeerDown"}')
        assert (alert[0]["instance"], alert[0]["server"]) == (targets[0], "b")
        await prometheus.until(f'up{{job="hoody",instance="{targets[1]}"}} == 0')
        cluster.daemons[1].start()
        await prometheus.until('sum(up{job="hoody"}) == 2')
