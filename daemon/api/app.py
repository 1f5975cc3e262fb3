"""The API as one aiohttp application: its routes, and the middleware around them."""

from __future__ import annotations

import time

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from daemon.api import (
    containers,
    copies,
    events,
    images,
    jobs,
    power,
    projects,
    proxy,
    rules,
    servers,
    snapshots,
    storage,
)
from daemon.api.deps import Deps
from daemon.api.docs import Docs
from daemon.api.failures import translated
from daemon.api.probes import Probes
from daemon.api.routing import BASE_PATH, AnyRoute, Gate, endpoint
from daemon.api.telemetry import Telemetry

ROUTES: tuple[AnyRoute, ...] = (
    *containers.ROUTES,
    *copies.ROUTES,
    *snapshots.ROUTES,
    *power.ROUTES,
    *rules.ROUTES,
    *storage.ROUTES,
    *projects.ROUTES,
    *proxy.ROUTES,
    *images.ROUTES,
    *servers.ROUTES,
    *jobs.ROUTES,
    *events.ROUTES,
)

NAME_PATTERN = "{name:[^/]+}"  # aiohttp's own pattern lets no braces in, which an alias may have


def make_app(deps: Deps) -> web.Application:
    """The application that answers everything."""
    gate, telemetry = Gate(deps), Telemetry(deps)
    app = web.Application(
        middlewares=[_measured(telemetry), translated(), _unmatched(gate)],
        client_max_size=deps.config.limits.body_bytes,
    )
    app[events.STREAMS] = events.Streams(deps.config.limits.streams_per_user)
    for route in ROUTES:
        path = BASE_PATH + route.path.replace("{name}", NAME_PATTERN)
        app.router.add_route(route.method, path, endpoint(route, deps, gate))
    docs = Docs(ROUTES)
    app.router.add_route("GET", f"{BASE_PATH}/openapi.json", docs.openapi)
    app.router.add_route("GET", "/docs", docs.docs)
    probes = Probes(deps, telemetry)
    app.router.add_route("GET", "/healthz", probes.healthz)
    app.router.add_route("GET", "/readyz", probes.readyz)
    if deps.config.metrics_listen is None:
        app.router.add_route("GET", "/metrics", probes.metrics)
    return app


def make_metrics_app(deps: Deps) -> web.Application:
    """The application that answers /metrics alone, for an address of its own."""
    telemetry = Telemetry(deps)
    app = web.Application(middlewares=[_measured(telemetry), translated()])
    app.router.add_route("GET", "/metrics", Probes(deps, telemetry).metrics)
    return app


def _measured(telemetry: Telemetry) -> Middleware:
    @web.middleware
    async def measure(request: web.Request, handler: Handler) -> web.StreamResponse:
        began = time.monotonic()
        response = await handler(request)
        telemetry.answered(request, response.status, time.monotonic() - began)
        return response

    return measure


def _unmatched(gate: Gate) -> Middleware:
    """Whether a path exists under the API is told only to who may come in."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        missed = request.match_info.http_exception is not None
        if missed and request.path.startswith(f"{BASE_PATH}/"):
            await gate.claims(request)
        return await handler(request)

    return check
