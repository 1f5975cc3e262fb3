"""Every failure in the failure envelope: those of the endpoints, of aiohttp's router, and of the
catalogue; nothing of an unexpected one but its id gets out."""

from __future__ import annotations

from http import HTTPStatus

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from daemon.api.errors import (
    ApiError,
    InternalError,
    MethodNotAllowed,
    PayloadTooLarge,
    ResourceNotFound,
    ServiceUnavailable,
    ValidationFailed,
    from_conflict,
)
from daemon.errors import CatalogueError, Conflict
from daemon.model import new_id

logger = structlog.get_logger()


def failure(error: ApiError) -> web.Response:
    """The response that says so."""
    envelope: dict[str, object] = {
        "statusCode": error.status,
        "error": HTTPStatus(error.status).phrase,
        "message": error.message,
        "code": error.code,
    }
    if error.details:
        envelope["details"] = error.details
    return web.json_response(envelope, status=error.status, headers=error.headers)


def of_aiohttp(error: web.HTTPException) -> ApiError:
    """What aiohttp refuses, in our words."""
    if error.status == HTTPStatus.METHOD_NOT_ALLOWED:
        return MethodNotAllowed(headers={"Allow": error.headers.get("Allow", "")})
    if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return PayloadTooLarge()
    if error.status == HTTPStatus.EXPECTATION_FAILED:
        return ValidationFailed(details={"expect": "must be 100-continue"})
    return ResourceNotFound()


def translated() -> Middleware:
    """The middleware that turns what is raised into a response."""

    @web.middleware
    async def translate(request: web.Request, handler: Handler) -> web.StreamResponse:
        request_id = new_id()
        log = logger.bind(request_id=request_id, method=request.method, path=request.path)
        try:
            response = await handler(request)
        except ApiError as error:
            response = failure(error)
        except Conflict as error:
            response = failure(from_conflict(error))
        except CatalogueError as error:
            log.warning("catalogue unavailable", reason=error.message)
            response = failure(ServiceUnavailable())
        except web.HTTPException as error:
            response = failure(of_aiohttp(error))
        except Exception:
            log.exception("request failed")
            response = failure(InternalError())
        response.headers["X-Request-Id"] = request_id
        return response

    return translate
