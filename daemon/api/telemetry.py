"""What Prometheus sees of the API and of this server's jobs and storage."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import structlog
from aiohttp import web
from prometheus_client import Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from daemon.api.deps import Deps
from daemon.errors import CatalogueError
from daemon.model import JobState, now
from daemon.store import jobs, servers
from daemon.store.database import Tx

logger = structlog.get_logger()

_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})


class Telemetry:
    """The metrics that the API keeps; one for each registry."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps
        registry = deps.registry
        self._requests = Counter(
            "hoody_http_requests",
            "HTTP requests answered",
            ["route", "method", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "hoody_http_request_duration_seconds",
            "Time to answer an HTTP request",
            ["route"],
            registry=registry,
        )
        self._jobs = Gauge(
            "hoody_jobs", "Jobs of this server by state", ["type", "state"], registry=registry
        )
        self._oldest = Gauge(
            "hoody_job_queue_oldest_seconds", "Age of the oldest queued job", registry=registry
        )
        self._storage = Gauge(
            "hoody_storage_bytes", "This server's storage", ["kind"], registry=registry
        )
        build = Gauge("hoody_build_info", "Always 1", ["version"], registry=registry)
        build.labels(running_version()).set(1)

    def answered(self, request: web.Request, status: int, seconds: float) -> None:
        """Counts one request. Labels never come from the client."""
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else "unmatched"
        method = request.method if request.method in _METHODS else "other"
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    async def render(self) -> tuple[bytes, str]:
        """The exposition with the catalogue's figures of now, and its Content-Type."""
        try:
            async with self._deps.db.read() as tx:
                await self._look(tx)
        except CatalogueError as error:
            # What this process counts is worth most when the catalogue is gone.
            logger.warning("metrics without the catalogue's figures", reason=error.message)
        return generate_latest(self._deps.registry), CONTENT_TYPE_PLAIN_0_0_4

    async def _look(self, tx: Tx) -> None:
        server_id = self._deps.server_id
        self._jobs.clear()
        self._oldest.set(0)
        for group in await jobs.census(tx, server_id):
            self._jobs.labels(group.type.value, group.state.value).set(group.count)
        queued_at = await jobs.oldest(tx, server_id, JobState.QUEUED)
        if queued_at is not None:
            self._oldest.set((now() - queued_at).total_seconds())
        if server := await servers.get(tx, server_id):
            self._storage.labels("total").set(server.total_bytes)
            self._storage.labels("used").set(server.used_bytes)
            self._storage.labels("available").set(server.available_bytes)


def running_version() -> str:
    """Which release this is."""
    try:
        return version("hoody-transfer")
    except PackageNotFoundError:
        return "source"  # run from a checkout that was not installed
