"""What this daemon counts for Prometheus. The rest of `/metrics` is read at each scrape, see
`daemon.api.figures`; how names and labels are promised stands in each help text."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from itertools import product

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)

from daemon.model import Job, JobType
from daemon.states import ENDED
from transfer.model import Strategy

DIRECTIONS = ("in", "out")
NO_STRATEGY = "none"
STRATEGIES = (NO_STRATEGY, *Strategy)

_JOB_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600)
_DOWNTIME_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The counters, and a registry of their own. They begin with the process, at nought: what may
    be counted is there from the beginning, so that the first of its kind is seen as an increase."""

    def __init__(self) -> None:
        # A second series for each, which nobody was promised.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no types
        registry = self.registry = CollectorRegistry()
        self.jobs_ended = Counter(
            "hoody_jobs",
            "Jobs that this server has ended, by outcome: succeeded, failed or cancelled",
            ["type", "outcome"],
            registry=registry,
        )
        self.job_seconds = Histogram(
            "hoody_job_duration_seconds",
            "From the first start of a job to its end; strategy is that of its result, or none",
            ["type", "strategy"],
            buckets=_JOB_SECONDS,
            registry=registry,
        )
        self.downtime_seconds = Histogram(
            "hoody_switch_downtime_seconds",
            "For how long a container was down while a sync or restore switched it",
            buckets=_DOWNTIME_SECONDS,
            registry=registry,
        )
        self._transfers(registry)
        self.requests = Counter(
            "hoody_http_requests",
            "HTTP requests answered",
            ["route", "method", "status"],
            registry=registry,
        )
        self.request_seconds = Histogram(
            "hoody_http_request_duration_seconds",
            "Time to answer an HTTP request",
            ["route"],
            registry=registry,
        )
        build = Gauge("hoody_build_info", "Always 1", ["version"], registry=registry)
        build.labels(running_version()).set(1)
        for job_type, outcome in product(JobType, ENDED):
            self.jobs_ended.labels(job_type, outcome)

    def _transfers(self, registry: CollectorRegistry) -> None:
        self.transfer_bytes = Counter(
            "hoody_transfer_bytes",
            "Bytes of transfers from (in) and to (out) other servers: logical, before compression;"
            " wire, of both ways of their channels, after it. Strategy none: between the streams",
            ["direction", "strategy", "kind"],
            registry=registry,
        )
        self.bytes_remaining = Gauge(
            "hoody_transfer_bytes_remaining",
            "Logical bytes that have yet to come in, as estimated",
            registry=registry,
        )
        self.transfers_active = Gauge(
            "hoody_transfers_active",
            "Jobs with a stream open from (in) and to (out) other servers",
            ["direction"],
            registry=registry,
        )
        self.stalls = Counter(
            "hoody_transfer_stalls",
            "Transfers that were given up for now because nothing moved for stall_seconds",
            registry=registry,
        )
        for direction in DIRECTIONS:
            self.transfers_active.labels(direction)
            for strategy, kind in product(STRATEGIES, ("logical", "wire")):
                self.transfer_bytes.labels(direction, strategy, kind)

    def ended(self, job: Job) -> None:
        """Counts a job that has ended, once."""
        result = job.result or {}
        self.jobs_ended.labels(job.type, job.state).inc()
        if job.started_at is not None and job.finished_at is not None:
            seconds = (job.finished_at - job.started_at).total_seconds()
            strategy = str(result.get("strategy", NO_STRATEGY))
            self.job_seconds.labels(job.type, strategy).observe(seconds)
        downtime_seconds = result.get("downtime_seconds")
        if isinstance(downtime_seconds, float) and downtime_seconds > 0:
            self.downtime_seconds.observe(downtime_seconds)


def running_version() -> str:
    """Which release this is."""
    try:
        return version("hoody-transfer")
    except PackageNotFoundError:
        return "source"  # run from a checkout that was not installed
