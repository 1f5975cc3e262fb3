"""The API as one aiohttp application: its routes, and the middleware around them."""

from __future__ import annotations

import time
from http import HTTPStatus

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from daemon.api import (
    containers,
    copies,
    jobs,
    power,
    projects,
    rules,
    servers,
    snapshots,
    storage,
)
from daemon.api.deps import Deps
from daemon.api.errors import (
    ApiError,
    InternalError,
    MethodNotAllowed,
    PayloadTooLarge,
    ResourceNotFound,
    ServiceUnavailable,
    from_conflict,
)
from daemon.api.probes import Probes
from daemon.api.routing import BASE_PATH, AnyRoute, Gate, endpoint
from daemon.api.telemetry import Telemetry
from daemon.errors import CatalogueError, Conflict
from daemon.model import new_id

ROUTES: tuple[AnyRoute, ...] = (
    *containers.ROUTES,
    *copies.ROUTES,
    *snapshots.ROUTES,
    *power.ROUTES,
    *rules.ROUTES,
    *storage.ROUTES,
    *projects.ROUTES,
    *servers.ROUTES,
    *jobs.ROUTES,
)

NAME_PATTERN = "{name:[^/]+}"  # aiohttp's own pattern lets no braces in, which an alias may have

logger = structlog.get_logger()


def make_app(deps: Deps) -> web.Application:
    """The application that answers everything."""
    gate, telemetry = Gate(deps), Telemetry(deps)
    app = web.Application(
        middlewares=[_measured(telemetry), _translated(), _unmatched(gate)],
        client_max_size=deps.config.limits.body_bytes,
    )
    for route in ROUTES:
        path = BASE_PATH + route.path.replace("{name}", NAME_PATTERN)
        app.router.add_route(route.method, path, endpoint(route, deps, gate))
    probes = Probes(deps, telemetry)
    app.router.add_route("GET", "/healthz", probes.healthz)
    app.router.add_route("GET", "/readyz", probes.readyz)
    app.router.add_route("GET", "/metrics", probes.metrics)
    return app


def _measured(telemetry: Telemetry) -> Middleware:
    @web.middleware
    async def measure(request: web.Request, handler: Handler) -> web.StreamResponse:
        began = time.monotonic()
        response = await handler(request)
        telemetry.answered(request, response.status, time.monotonic() - began)
        return response

    return measure


def _translated() -> Middleware:
    """Every failure in the failure envelope; nothing of an unexpected one but its id gets out."""

    @web.middleware
    async def translate(request: web.Request, handler: Handler) -> web.StreamResponse:
        request_id = new_id()
        log = logger.bind(request_id=request_id, method=request.method, path=request.path)
        try:
            response = await handler(request)
        except ApiError as error:
            response = _failure(error)
        except Conflict as error:
            response = _failure(from_conflict(error))
        except CatalogueError as error:
            log.warning("catalogue unavailable", reason=error.message)
            response = _failure(ServiceUnavailable())
        except web.HTTPException as error:
            response = _failure(_of_aiohttp(error))
        except Exception:
            log.exception("request failed")
            response = _failure(InternalError())
        response.headers["X-Request-Id"] = request_id
        return response

    return translate


def _unmatched(gate: Gate) -> Middleware:
    """Whether a path exists under the API is told only to who may come in."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        missed = request.match_info.http_exception is not None
        if missed and request.path.startswith(f"{BASE_PATH}/"):
            await gate.claims(request)
        return await handler(request)

    return check


def _of_aiohttp(error: web.HTTPException) -> ApiError:
    if error.status == HTTPStatus.METHOD_NOT_ALLOWED:
        return MethodNotAllowed(headers={"Allow": error.headers.get("Allow", "")})
    if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return PayloadTooLarge()
    return ResourceNotFound()


def _failure(error: ApiError) -> web.Response:
    envelope: dict[str, object] = {
        "statusCode": error.status,
        "error": HTTPStatus(error.status).phrase,
        "message": error.message,
        "code": error.code,
    }
    if error.details:
        envelope["details"] = error.details
    return web.json_response(envelope, status=error.status, headers=error.headers)
