"""What Prometheus sees: what this process counts, and the catalogue's figures of the moment."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric

from daemon.api import figures
from daemon.api.deps import Deps
from daemon.errors import CatalogueError

logger = structlog.get_logger()

_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})


class Telemetry:
    """Counts requests, and answers scrapes: one at a time, for each asks the catalogue, and
    anybody may scrape."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps
        self._turn = asyncio.Lock()

    def answered(self, request: web.Request, status: int, seconds: float) -> None:
        """Counts one request. Labels never come from the client."""
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else "unmatched"
        method = request.method if request.method in _METHODS else "other"
        self._deps.metrics.requests.labels(route, method, str(status)).inc()
        self._deps.metrics.request_seconds.labels(route).observe(seconds)

    async def render(self) -> tuple[bytes, str]:
        """The exposition with the catalogue's figures of now, and its Content-Type."""
        async with self._turn:
            gauges: list[Metric] = []
            try:
                gauges = await figures.read(self._deps)
            except CatalogueError as error:
                # What this process counts is worth most when the catalogue is gone.
                logger.warning("metrics without the catalogue's figures", reason=error.message)
            scrape = _Scrape(self._deps.metrics.registry, gauges)
            # Thousands of copies are a long text, during which others are to be answered.
            body = await asyncio.to_thread(generate_latest, scrape)
        return body, CONTENT_TYPE_PLAIN_0_0_4


class _Scrape(CollectorRegistry):
    """One scrape's metrics. The gauges are in no registry, which would take `hoody_jobs` beside
    `hoody_jobs_total` for the same name twice."""

    def __init__(self, counted: CollectorRegistry, gauges: list[Metric]) -> None:
        super().__init__()
        self._counted = counted
        self._gauges = gauges

    def collect(self) -> Iterable[Metric]:
        """All of them."""
        yield from self._counted.collect()
        yield from self._gauges
