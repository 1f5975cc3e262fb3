"""What /metrics promises: names, types and labels, and what the catalogue's figures must be."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from datetime import timedelta
from itertools import product
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import event

from daemon.api.app import make_app, make_metrics_app
from daemon.metrics import running_version
from daemon.model import JobState, JobType, now
from daemon.store import containers, jobs, looks, servers
from tests.contract.api.api_world import Api, make_server
from tests.prometheus import FILES, promtool
from transfer.model import Capacity
from transfer.peer.traffic import BETWEEN

HISTOGRAM = ("_bucket", "_sum", "_count")
PROMISED: dict[str, tuple[str, set[str]]] = {
    "hoody_jobs": ("gauge", {"type", "state"}),
    "hoody_jobs_total": ("counter", {"type", "outcome"}),
    "hoody_job_duration_seconds": ("histogram", {"type", "strategy"}),
    "hoody_job_queue_oldest_seconds": ("gauge", set()),
    "hoody_transfer_bytes_total": ("counter", {"direction", "strategy", "kind"}),
    "hoody_transfer_bytes_remaining": ("gauge", set()),
    "hoody_transfers_active": ("gauge", {"direction"}),
    "hoody_transfer_stalls_total": ("counter", set()),
    "hoody_switch_downtime_seconds": ("histogram", set()),
    "hoody_sync_last_success_timestamp_seconds": ("gauge", {"container_id"}),
    "hoody_sync_lag_seconds": ("gauge", {"container_id"}),
    "hoody_storage_bytes": ("gauge", {"kind"}),
    "hoody_peer_up": ("gauge", {"server"}),
    "hoody_http_requests_total": ("counter", {"route", "method", "status"}),
    "hoody_http_request_duration_seconds": ("histogram", {"route"}),
    "hoody_build_info": ("gauge", {"version"}),
}
SERIES = {
    name + suffix
    for name, (kind, _) in PROMISED.items()
    for suffix in (HISTOGRAM if kind == "histogram" else ("",))
}


async def scrape(api: Api) -> str:
    async with api.client.get("/metrics") as answer:
        assert answer.status == 200
        return await answer.text()


def values(text: str, name: str) -> dict[tuple[str, ...], float]:
    """The samples of one name, by their labels' values in the labels' order."""
    return {
        tuple(sample.labels[key] for key in sorted(sample.labels)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


@pytest.fixture
async def text(api: Api) -> str:
    """A scrape in which every metric has at least one sample."""
    world = api.world
    ended = await world.job(await world.container(), JobType.SYNC)
    at = now()
    for state in (JobState.SUCCEEDED, JobState.FAILED):
        result = {"strategy": "incremental", "downtime_seconds": 0.25}
        world.metrics.ended(
            replace(ended, state=state, started_at=at, finished_at=at, result=result)
        )
    await world.copy_of(await world.container("source"), last_synced_at=at)
    await scrape(api)
    return await scrape(api)


def test_names_types_and_labels_are_those_of_the_contract(text: str) -> None:
    found: dict[str, tuple[str, set[str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = sample.name
            if family.type == "histogram":
                name = re.sub("_(bucket|sum|count)$", "", name)
            labels = found.setdefault(name, (family.type, set()))[1]
            labels |= sample.labels.keys() - {"le"}
    assert found == PROMISED


def test_promtool_finds_nothing_wrong(text: str) -> None:
    assert promtool("check", "metrics", given=text) == ""


def test_what_may_be_counted_is_there_from_the_beginning(text: str) -> None:
    outcomes = product(("cancelled", "failed", "succeeded"), JobType)
    assert values(text, "hoody_jobs_total").keys() == set(outcomes)
    moved = product(
        ("in", "out"),
        ("logical", "wire"),
        (BETWEEN, "full", "incremental", "content-diff"),
    )
    assert values(text, "hoody_transfer_bytes_total").keys() == set(moved)
    now_states = product(("queued", "running"), JobType)
    assert values(text, "hoody_jobs").keys() == set(now_states)
    assert values(text, "hoody_build_info") == {(running_version(),): 1}


def labels_asked(text: str) -> set[tuple[str, str]]:
    """Each metric with each label by which it is chosen or named, but those of the scrape."""
    return {
        (re.sub("_(bucket|sum|count)$", "", name), label)
        for name, chosen in re.findall(r"(hoody_\w+)\{([^}]*)\}", text)
        for label in re.findall(r"(\w+)(?:=~|!~|!=|=)", chosen)
        if label not in ("job", "instance")
    }


def has(name: str, label: str) -> bool:
    return label in PROMISED[name][1]


def test_the_dashboard_asks_only_for_what_is_there(tmp_path: Path) -> None:
    dashboard = json.loads((FILES / "hoody.dashboard.json").read_text())
    queries = [one["expr"] for panel in dashboard["panels"] for one in panel["targets"]]
    assert len(queries) >= len(PROMISED)
    asked = {name for query in queries for name in re.findall(r"hoody_\w+", query)}
    assert asked <= SERIES
    assert all(has(*one) for query in queries for one in labels_asked(query))
    # Each metric is on it, one way or another.
    assert {re.sub("_bucket$", "", name) for name in asked} == PROMISED.keys()
    rules = [
        {"record": f"query:{number}", "expr": re.sub(r"\$__rate_interval", "5m", query)}
        for number, query in enumerate(queries)
    ]
    parsed = tmp_path / "queries.yml"
    parsed.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(queries)} rules found" in promtool("check", "rules", str(parsed))


def test_the_alerts_ask_only_for_what_is_there() -> None:
    text = (FILES / "hoody.rules.yml").read_text()
    assert set(re.findall(r"hoody_\w+", text)) <= SERIES
    given = (FILES / "hoody.rules.test.yml").read_text()
    assert all(has(*one) for one in labels_asked(text) | labels_asked(given))
    assert "6 rules found" in promtool("check", "rules", "hoody.rules.yml")
    promtool("check", "config", "prometheus.yml")


def test_the_alerts_come_when_they_must_and_at_no_other_time() -> None:
    promtool("test", "rules", "hoody.rules.test.yml")


async def test_jobs_and_the_oldest_in_the_queue(api: Api) -> None:
    world = api.world
    assert values(await scrape(api), "hoody_job_queue_oldest_seconds") == {(): 0}
    for number, job_type in enumerate((JobType.COPY, JobType.COPY, JobType.STOP)):
        at = now() - timedelta(hours=number)
        await world.job(await world.container(f"c{number}"), job_type, created_at=at)
    at = now() - timedelta(hours=9)
    await world.job(await world.container("running"), state=JobState.RUNNING, created_at=at)
    await world.job(await world.container("ended"), state=JobState.FAILED)
    elsewhere = await world.container("elsewhere", server_id=world.there.id)
    await world.job(elsewhere, created_at=now() - timedelta(days=1))
    text = await scrape(api)
    found = {key: value for key, value in values(text, "hoody_jobs").items() if value}
    assert found == {("queued", "copy"): 2, ("queued", "stop"): 1, ("running", "sync"): 1}
    (age,) = values(text, "hoody_job_queue_oldest_seconds").values()
    assert 7200 <= age < 7260


async def test_how_old_copies_are(api: Api) -> None:
    """By when their sources' filesystems were last seen to change, whatever became of a record:
    what is written to a copy does not move it, and a new name does. Of a source that was never
    seen to change, its record's changes are known."""
    world = api.world
    at = now() - timedelta(hours=1)
    before, after = at - timedelta(days=1), at + timedelta(seconds=1)
    still = await world.container("still", updated_at=before)
    renamed = await world.container("renamed", updated_at=after)
    moving = await world.container("moving", updated_at=before)
    async with world.db.write() as tx:
        await looks.written(tx, renamed.id, before)
        await looks.written(tx, moving.id, after)
    current = await world.copy_of(still, "current", last_synced_at=at)
    as_current = await world.copy_of(renamed, "as-current", last_synced_at=at)
    behind = await world.copy_of(moving, "behind", last_synced_at=at, updated_at=before)
    async with world.db.write() as tx:
        await looks.written(tx, behind.id, after)
    further_behind = await world.copy_of(behind, "further-behind", last_synced_at=at)
    await world.copy_of(moving, "new")
    await world.copy_of(moving, "elsewhere", last_synced_at=at, server_id=world.there.id)
    orphan = await world.copy_of(await world.container("gone"), "orphan", last_synced_at=at)
    async with world.db.write() as tx:
        await containers.delete(tx, orphan.source_container_id or "")
    text = await scrape(api)
    success = values(text, "hoody_sync_last_success_timestamp_seconds")
    ages = dict.fromkeys((current.id, as_current.id), 0.0)
    ages |= dict.fromkeys((behind.id, further_behind.id), 3600.0)
    assert success == {(one,): pytest.approx(at.timestamp()) for one in ages}
    lag = values(text, "hoody_sync_lag_seconds")
    assert lag == {(one,): pytest.approx(age, abs=60) for one, age in ages.items()}
    assert [lag[one.id,] for one in (current, as_current)] == [0, 0]


async def test_storage_and_peers(api: Api) -> None:
    world = api.world
    long_ago = now() - timedelta(hours=1)
    async with world.db.write() as tx:
        await servers.beat(tx, world.here.id, Capacity(100, 30, 70), now())
        await servers.beat(tx, world.pool.id, Capacity(9, 9, 9), long_ago)
        await servers.put(tx, make_server("fresh", last_heartbeat_at=None))
    text = await scrape(api)
    sizes = {("total",): 100, ("used",): 30, ("available",): 70}
    assert values(text, "hoody_storage_bytes") == sizes
    assert values(text, "hoody_peer_up") == {("there",): 1, ("pool",): 0, ("fresh",): 0}


async def test_what_the_end_of_a_job_counts(api: Api) -> None:
    """What it spent in the queue is no part of its duration."""
    world = api.world
    at = now()
    job = await world.job(await world.container(), created_at=at - timedelta(hours=1))
    ends = [
        (JobState.SUCCEEDED, at, {"strategy": "full", "downtime_seconds": 0.0}),
        (JobState.SUCCEEDED, at, {"strategy": "unchanged", "downtime_seconds": 0.0}),
        (JobState.SUCCEEDED, at, {"snapshot": "snap", "downtime_seconds": 3.0}),
        (JobState.FAILED, at, None),
        (JobState.CANCELLED, None, None),  # it never began
    ]
    for state, began, result in ends:
        finished = at + timedelta(seconds=20)
        world.metrics.ended(
            replace(job, state=state, started_at=began, finished_at=finished, result=result)
        )
    text = await scrape(api)
    counted = {key: value for key, value in values(text, "hoody_jobs_total").items() if value}
    assert counted == {("succeeded", "sync"): 3, ("failed", "sync"): 1, ("cancelled", "sync"): 1}
    seconds = values(text, "hoody_job_duration_seconds_sum")
    assert seconds == {("full", "sync"): 20, ("unchanged", "sync"): 20, ("none", "sync"): 40}
    assert values(text, "hoody_switch_downtime_seconds_sum") == {(): 3}
    assert values(text, "hoody_switch_downtime_seconds_count") == {(): 1}


async def test_a_job_that_the_api_ends_is_counted(api: Api) -> None:
    """Its own server is offline, and has nobody to count it."""
    world = api.world
    async with world.db.write() as tx:
        await servers.beat(tx, world.there.id, Capacity(1, 1, 1), now() - timedelta(hours=1))
    job = await world.job(await world.container(server_id=world.there.id))
    await api.post(f"/jobs/{job.id}/cancel")
    async with world.db.read() as tx:
        ended = await jobs.get(tx, job.id)
    assert ended is not None and ended.state is JobState.CANCELLED
    counted = values(await scrape(api), "hoody_jobs_total")
    assert {key: value for key, value in counted.items() if value} == {("cancelled", "sync"): 1}


async def test_requests_take_seconds(api: Api) -> None:
    """Of which a client sees no fewer than the server."""
    began = time.monotonic()
    await api.get("/projects")
    spent = time.monotonic() - began
    route = ("/api/v1/projects",)
    text = await scrape(api)
    assert 0 < values(text, "hoody_http_request_duration_seconds_sum")[route] <= spent
    assert values(text, "hoody_http_request_duration_seconds_count")[route] == 1


async def test_an_address_of_its_own(api: Api) -> None:
    """Then it is there, without a token, and nowhere else; nor is anything else there."""
    deps = api.world.deps
    server = deps.config.server.model_copy(update={"metrics_listen": "127.0.0.1:8472"})
    deps = replace(deps, config=deps.config.model_copy(update={"server": server}))
    wanted = {"/metrics": (404, 200), "/healthz": (200, 404), "/api/v1/projects": (401, 404)}
    apps: tuple[web.Application, ...] = (make_app(deps), make_metrics_app(deps))
    for number, app in enumerate(apps):
        async with TestClient(TestServer(app)) as client:
            for path, statuses in wanted.items():
                async with client.get(path) as answer:
                    assert answer.status == statuses[number], path


async def test_thousands_of_copies_cost_three_statements(api: Api) -> None:
    world = api.world
    source = await world.container("source")
    for number in range(50):
        await world.copy_of(source, f"copy{number}", last_synced_at=now())
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        asked.append(statement)

    event.listen(world.db._engine.sync_engine, "before_cursor_execute", note)
    text = await scrape(api)
    assert len(values(text, "hoody_sync_lag_seconds")) == 50
    assert len(asked) == 3, asked
