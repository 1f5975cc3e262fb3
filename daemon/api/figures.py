"""What a scrape reads from the catalogue: gauges of this moment, of this server."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import product

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from daemon.api.access import is_online
from daemon.api.deps import Deps
from daemon.model import JobState, JobType, Server, now
from daemon.store import figures, jobs, servers
from daemon.store.figures import CopyRow
from daemon.store.jobs import Group
from daemon.store.schema import ACTIVE


async def read(deps: Deps) -> list[Metric]:
    """The gauges. Raises CatalogueError."""
    async with deps.db.read() as tx:
        groups = await jobs.census(tx, deps.server_id)
        everybody = await servers.every(tx)
        copies = await figures.copies(tx, deps.server_id)
    at = now()
    peers = [server for server in everybody if server.id != deps.server_id]
    own = [server for server in everybody if server.id == deps.server_id]
    return [
        *_jobs(groups, at),
        *_copies(copies, at),
        *(_storage(server) for server in own),
        _peers(deps, peers),
    ]


def _jobs(groups: list[Group], at: datetime) -> Iterator[Metric]:
    counts = {(group.type, group.state): group.count for group in groups}
    count = GaugeMetricFamily(
        "hoody_jobs", "Jobs of this server that have not ended", labels=["type", "state"]
    )
    for job_type, state in product(JobType, ACTIVE):
        count.add_metric([job_type, state], counts.get((job_type, state), 0))
    yield count
    queued = [group.oldest for group in groups if group.state is JobState.QUEUED]
    age = (at - min(queued)).total_seconds() if queued else 0.0
    yield GaugeMetricFamily(
        "hoody_job_queue_oldest_seconds",
        "For how long the oldest queued job has been there; 0 where none is queued",
        value=max(0.0, age),
    )


def _copies(copies: list[CopyRow], at: datetime) -> Iterator[Metric]:
    success = GaugeMetricFamily(
        "hoody_sync_last_success_timestamp_seconds",
        "The moment of its source that a copy got by its last copy or sync that succeeded",
        labels=["container_id"],
    )
    lag = GaugeMetricFamily(
        "hoody_sync_lag_seconds",
        "The age of what a copy has of its source; 0 unless the source is known to have changed",
        labels=["container_id"],
    )
    for copy in copies:
        success.add_metric([copy.container_id], copy.synced_at.timestamp())
        behind = copy.written_at > copy.synced_at
        age = (at - copy.synced_at).total_seconds() if behind else 0.0
        lag.add_metric([copy.container_id], max(0.0, age))
    yield success
    yield lag


def _storage(server: Server) -> Metric:
    size = GaugeMetricFamily(
        "hoody_storage_bytes", "This server's storage: total, used and available", labels=["kind"]
    )
    size.add_metric(["total"], server.total_bytes)
    size.add_metric(["used"], server.used_bytes)
    size.add_metric(["available"], server.available_bytes)
    return size


def _peers(deps: Deps, peers: list[Server]) -> Metric:
    up = GaugeMetricFamily(
        "hoody_peer_up",
        "Whether another server's heartbeat is there: 0 after three that are missing",
        labels=["server"],
    )
    for peer in peers:
        up.add_metric([peer.name], is_online(deps.config, peer))
    return up
