"""The API's OpenAPI 3.1 document, made of its routes: parameters and bodies from the very models
that validate them, refusals from the error classes, texts from the docstrings. Pure."""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import JsonSchemaValue, models_json_schema

from daemon.api.documented import ANSWERS, Documented
from daemon.api.errors import (
    AccountBanned,
    ApiError,
    ContainerNotFound,
    ExpiredToken,
    IdempotencyKeyReused,
    InsufficientPermissions,
    InternalError,
    InvalidId,
    InvalidToken,
    JobCancelled,
    MissingToken,
    PayloadTooLarge,
    RateLimited,
    ResourceNotFound,
    ServiceUnavailable,
    SourceContainerNotFound,
    StorageInsufficient,
    UnsupportedMediaType,
    ValidationFailed,
)
from daemon.api.fields import NULL, ObjectId, SnapshotReference
from daemon.api.idempotency import HEADER, KEY_PATTERN, REPLAYED
from daemon.api.routing import BASE_PATH, AnyRoute
from daemon.api.schemas import Failure
from daemon.metrics import running_version
from daemon.model import Json

_REF = "#/components/schemas/"
_STRING = {"type": "string"}
_EVENT = {
    "type": "object",
    "properties": {
        "event": {"enum": ["job", "progress", "container", "reset"]},
        "data": _STRING,
        "id": _STRING,
    },
}
_PARAMETER = re.compile(r"{(\w+)}")
_ALWAYS = (
    ValidationFailed,
    MissingToken,
    InvalidToken,
    ExpiredToken,
    InsufficientPermissions,
    AccountBanned,
    RateLimited,
    InternalError,
    ServiceUnavailable,
)
_HEADERS: Mapping[int, tuple[str, str]] = {
    HTTPStatus.UNAUTHORIZED: ("WWW-Authenticate", "How to come in: `Bearer`"),
    HTTPStatus.TOO_MANY_REQUESTS: ("Retry-After", "The seconds to wait"),
}
_LOCATION = ("Location", "The job's path")
_ETAG = ("ETag", "The icon's, strong: it changes with the bytes")
_REPLAY = (*REPLAYED, f"`true` where the request came with its {HEADER} before")
_ENDS_OF_JOBS = frozenset(
    refusal.status
    for refusal in (
        JobCancelled,
        InternalError,
        StorageInsufficient,
        ResourceNotFound,  # what the job made is gone again
    )
)


def document(routes: Sequence[AnyRoute]) -> Json:
    """The document of these routes. Each must stand in `documented.ANSWERS`."""
    schemas = _schemas(routes)
    paths: dict[str, Json] = defaultdict(dict)
    for route in routes:
        paths[route.path][route.method.lower()] = _operation(route, schemas)
    for query in {route.query for route in routes} - {route.body for route in routes}:
        del schemas[query.__name__]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "hoody-transfer",
            "version": running_version(),
            "description": "Copies containers between servers and keeps the copies up to date.",
        },
        "servers": [{"url": BASE_PATH}],
        "paths": dict(paths),
        "components": {
            "schemas": schemas,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _schemas(routes: Sequence[AnyRoute]) -> dict[str, JsonSchemaValue]:
    """The schemas of all models that the routes name, by the models' names."""
    shapes = [answer.data for answer in ANSWERS.values() if answer.data]
    given = [model for route in routes for model in (route.body, route.query)]
    models: dict[type[BaseModel], None] = dict.fromkeys([*given, *shapes, Failure])
    _, schemas = models_json_schema(
        [(model, "validation") for model in models], ref_template=_REF + "{model}"
    )
    return dict(schemas["$defs"])


def _operation(route: AnyRoute, schemas: Mapping[str, JsonSchemaValue]) -> Json:
    module, name = route.handler.__module__.rpartition(".")[2], route.handler.__name__
    text = inspect.cleandoc(route.handler.__doc__ or "")
    operation: Json = {
        "operationId": f"{module}_{name}",
        "tags": [module],
        "summary": text.partition("\n\n")[0].replace("\n", " "),
        "description": f"Needs the scope `{route.scope}`.",
        "security": [{"bearer": [route.scope.value]}],
        "parameters": [
            *_path_parameters(route),
            *_query_parameters(schemas[route.query.__name__]),
            *_headers_given(route),
        ],
        "responses": _responses(route),
    }
    if route.method != "GET":
        operation["requestBody"] = {
            "required": bool(schemas[route.body.__name__].get("required")),
            "content": _json({"$ref": _REF + route.body.__name__}),
        }
    return operation


def _path_parameters(route: AnyRoute) -> Iterator[Json]:
    kinds: dict[str, Any] = {"id": ObjectId, "name": SnapshotReference}
    for name in _PARAMETER.findall(route.path):
        schema = TypeAdapter(kinds[name]).json_schema()
        yield {"name": name, "in": "path", "required": True, "schema": schema}


def _query_parameters(query: JsonSchemaValue) -> Iterator[Json]:
    """An absent parameter has no spelling but its absence: null is none of its values."""
    for name, schema in query["properties"].items():
        kinds = [kind for kind in schema["anyOf"] if kind != NULL]
        yield {"name": name, "in": "query", "required": False, "schema": kinds[0]}


def _headers_given(route: AnyRoute) -> Iterator[Json]:
    answer = ANSWERS[route.method, route.path]
    if answer.is_png:
        text = "The `ETag` of what the client has: 304 where it is what there is"
        yield {"name": "If-None-Match", "in": "header", "description": text, "schema": _STRING}
    elif answer.data is None:
        text = "The id of the last event that was seen: the stream goes on after it"
        yield {"name": "Last-Event-ID", "in": "header", "description": text, "schema": _STRING}
    if route.method == "POST":
        text = "Asked again with the same key, within a day, it is done once and answered alike"
        schema = {**_STRING, "pattern": f"^{KEY_PATTERN}$"}
        yield {"name": HEADER, "in": "header", "description": text, "schema": schema}


def _responses(route: AnyRoute) -> Json:
    answer = ANSWERS[route.method, route.path]
    by_status: dict[int, list[type[ApiError]]] = defaultdict(list)
    for refusal in _refusals(route, answer):
        by_status[refusal.status].append(refusal)
    refused = {
        str(status): _refused(status, by_status[status], _headers_refused(route, answer, status))
        for status in sorted(by_status)
    }
    return {**_success(route, answer), **refused}


def _refusals(route: AnyRoute, answer: Documented) -> Iterator[type[ApiError]]:
    """Every way in which the endpoint may refuse."""
    yield from _ALWAYS
    yield from answer.refusals
    if "{id}" in route.path:
        yield from (InvalidId, missing(route.path))
    if "{name}" in route.path:
        yield ResourceNotFound
    if route.method != "GET":
        yield from (PayloadTooLarge, UnsupportedMediaType)
    if route.method == "POST":
        yield IdempotencyKeyReused


def missing(path: str) -> type[ApiError]:
    """What is said where the path's `{id}` names nothing that the caller may see."""
    if path.endswith("/copy"):
        return SourceContainerNotFound
    return ContainerNotFound if path.startswith("/containers/") else ResourceNotFound


def _success(route: AnyRoute, answer: Documented) -> Json:
    if answer.is_png:
        png = {"image/png": {"schema": {**_STRING, "contentMediaType": "image/png"}}}
        return {
            "200": {"description": "The PNG", "headers": _header(*_ETAG), "content": png},
            "304": {"description": "It is what the client has", "headers": _header(*_ETAG)},
        }
    if answer.data is None:
        stream = {"text/event-stream": {"schema": _EVENT}}
        ended = (
            {"204": {"description": "There is nothing left to tell"}} if answer.is_finite else {}
        )
        return {"200": {"description": "Server-sent events", "content": stream}, **ended}
    schema = {
        "type": "object",
        "properties": {
            "statusCode": {"const": answer.status},
            "message": _STRING,
            "data": {"$ref": _REF + answer.data.__name__},
        },
        "required": ["statusCode", "message", "data"],
        "additionalProperties": False,
    }
    headers = _header(*_LOCATION) if answer.has_job else {}
    if route.method == "POST":
        headers |= _header(*_REPLAY, required=False)
    description = HTTPStatus(answer.status).phrase
    success = {"description": description, "headers": headers, "content": _json(schema)}
    return {str(answer.status): success}


def _headers_refused(route: AnyRoute, answer: Documented, status: int) -> Json:
    """The headers of a refusal: where the answer comes with the end of a job, so may the refusal,
    and it is as good a first answer as any."""
    headers = _header(*_HEADERS[status]) if status in _HEADERS else {}
    if answer.waits and status in (*_ENDS_OF_JOBS, ServiceUnavailable.status):
        headers |= _header(*_LOCATION, required=False)
    if route.ending is not None and status in _ENDS_OF_JOBS:
        headers |= _header(*_REPLAY, required=False)
    return headers


def _refused(status: int, refusals: Sequence[type[ApiError]], headers: Json) -> Json:
    told = dict.fromkeys((refusal.code, " ".join(_doc(refusal))) for refusal in refusals)
    schema: Json = {
        "allOf": [{"$ref": f"{_REF}{Failure.__name__}"}],
        "properties": {
            "statusCode": {"const": status},
            "code": {"enum": sorted({refusal.code for refusal in refusals})},
        },
    }
    return {
        "description": "\n".join(f"- `{code}`: {text}" for code, text in told),
        "headers": headers,
        "content": _json(schema),
    }


def _header(name: str, description: str, *, required: bool = True) -> Json:
    return {name: {"description": description, "required": required, "schema": _STRING}}


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def _doc(refusal: type[ApiError]) -> list[str]:
    return (refusal.__doc__ or "").split()
