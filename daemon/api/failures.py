"""Every failure in the failure envelope: those of the endpoints, of aiohttp's router, and of the
catalogue; nothing of an unexpected one but its id gets out."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from http import HTTPStatus

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from daemon import logs
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
from daemon.api.fields import is_id
from daemon.errors import CatalogueError, Conflict
from daemon.model import Job, new_id

logger = structlog.get_logger()

_queued: ContextVar[dict[str, str]] = ContextVar("queued")
_messages: ContextVar[Mapping[str, str]] = ContextVar("messages")

_SUBJECTS = {"containers": "container_id", "jobs": "job_id"}
_LOOKS = frozenset({"GET", "HEAD", "OPTIONS"})


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
        about = {"method": request.method, "path": request.path, **_subject(request)}
        queued: dict[str, str] = {}
        _queued.set(queued)
        _messages.set({})
        with logs.bind(request_id=request_id, **about):
            response = await _answered(request, handler)
            # What only looks is worth a line to who follows one request.
            tell = logger.debug if request.method in _LOOKS else logger.info
            tell("answered", status=response.status, **queued)
        response.headers["X-Request-Id"] = request_id
        return response

    return translate


def note_queued(job: Job) -> None:
    """Puts the job that a request has queued into the line that the log has of the request."""
    ids = {"job_id": job.id, "job_type": job.type.value, "container_id": job.container_id}
    _queued.get().update(ids)


def say(messages: Mapping[str, str]) -> None:
    """Has the request refused in these words, by code, in place of the errors' own."""
    _messages.set(messages)


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    refused: ApiError
    try:
        return await handler(request)
    except ApiError as error:
        refused = error
    except Conflict as error:
        refused = from_conflict(error)
    except CatalogueError as error:
        logger.warning("catalogue unavailable", reason=error.message)
        refused = ServiceUnavailable()
    except web.HTTPException as error:
        refused = of_aiohttp(error)
    except Exception:
        logger.exception("request failed")
        refused = InternalError()
    refused.message = _messages.get().get(refused.code, refused.message)
    return failure(refused)


def _subject(request: web.Request) -> dict[str, str]:
    """The container or job that a path names."""
    resource = request.match_info.route.resource
    kind, _, _ = (resource.canonical if resource else "").partition("/{id}")
    name = _SUBJECTS.get(kind.rpartition("/")[2])
    found = request.match_info.get("id", "")
    return {name: found} if name is not None and is_id(found) else {}
