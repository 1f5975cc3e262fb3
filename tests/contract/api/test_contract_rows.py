"""Every row of the error tables of the copy, sync, snapshots and images pages and of API.md 1:
each one provoked, and its answer held against the contract."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from daemon.api.app import ROUTES
from daemon.api.errors import ApiError
from daemon.api.routing import AnyRoute
from daemon.config import LimitsSection
from tests.contract.api.api_world import V1
from tests.contract.api.contract_images import IMAGE_MESSAGES, IMAGE_PAGES, IMAGE_ROWS
from tests.contract.api.contract_proxy import PROXY
from tests.contract.api.contract_rows import (
    BODY_BYTES_MAX,
    Row,
    endpoint_of,
    every_row,
    missing_container,
)
from tests.contract.api.contract_special import SPECIAL
from tests.contract.api.contract_stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROWS = [*every_row(), *SPECIAL, *PROXY, *IMAGE_ROWS]
PLAYED = {(row.endpoint, row.status, row.code) for row in ROWS}


@pytest.mark.parametrize("row", ROWS, ids=str)
async def test_row(row: Row, stage: Stage) -> None:
    reply = await row.case(stage)
    assert reply.refusal == (row.status, row.code)
    assert set(reply.body) <= {"statusCode", "error", "message", "code", "details"}
    assert reply.body["error"] and reply.body["message"]
    assert reply.headers["Content-Type"] == "application/json; charset=utf-8"
    assert (reply.headers.get("WWW-Authenticate") == "Bearer") is (row.status == 401)
    assert ("Retry-After" in reply.headers) is (row.status == 429)
    assert ("Location" in reply.headers) is (row.why == "job")
    if row.status in (400, 422) or row.code == "OPERATION_STATE_CONFLICT":
        assert all(reply.body["details"].items()), "which field, and why"
    wanted = PAGE_MESSAGES.get((row.endpoint, row.status, row.code))
    assert wanted in (None, reply.body["message"])


COPY, SYNC = "POST /containers/{id}/copy", "POST /containers/{id}/sync"
PAGE_MESSAGES = {
    **IMAGE_MESSAGES,
    (COPY, 400, "INVALID_CONTAINER_NAME"): "Invalid container name",
    (COPY, 401, "MISSING_TOKEN"): "Authentication token required",
    (COPY, 403, "INSUFFICIENT_PERMISSIONS"): "Insufficient permissions",
    (COPY, 404, "SOURCE_CONTAINER_NOT_FOUND"): "Source container not found",
    (COPY, 409, "CONTAINER_NAME_IN_USE"): "Container name already in use within the project",
    (SYNC, 400, "INVALID_ID_FORMAT"): "Invalid ID format",
    (SYNC, 404, "CONTAINER_NOT_FOUND"): "Container not found",
    (SYNC, 409, "CONTAINER_NOT_COPIED"): (
        "Container was not created from a copy, sync is not possible."
    ),
}

# What follows is typed from the pages, not made from the code.
_CALLERS = """
    401 MISSING_TOKEN INVALID_TOKEN TOKEN_EXPIRED
    403 INSUFFICIENT_PERMISSIONS ACCOUNT_BANNED
"""
_SNAPSHOTS = f"{_CALLERS} 400 INVALID_ID_FORMAT 404 CONTAINER_NOT_FOUND 500 INTERNAL_ERROR"
_NAMED = f"{_SNAPSHOTS} 400 VALIDATION_ERROR 404 RESOURCE_NOT_FOUND"
_WAITING = """
    409 OPERATION_STATE_CONFLICT 429 RATE_LIMITED 503 SERVICE_UNAVAILABLE 507 INSUFFICIENT_STORAGE
"""
PAGES = {
    **IMAGE_PAGES,
    COPY: f"""{_CALLERS}
        400 VALIDATION_ERROR INVALID_ID_FORMAT INVALID_CONTAINER_NAME SERVER_CONTAINER_LIMIT
        404 SOURCE_CONTAINER_NOT_FOUND RESOURCE_NOT_FOUND
        409 CONTAINER_NAME_IN_USE SSH_PUBLIC_KEY_IN_USE OPERATION_STATE_CONFLICT
        429 RATE_LIMITED
        507 INSUFFICIENT_STORAGE""",
    SYNC: f"""{_CALLERS}
        400 INVALID_ID_FORMAT SERVER_CONTAINER_LIMIT VALIDATION_ERROR
        404 CONTAINER_NOT_FOUND SOURCE_CONTAINER_NOT_FOUND
        409 CONTAINER_NOT_COPIED OPERATION_STATE_CONFLICT
        429 RATE_LIMITED
        507 INSUFFICIENT_STORAGE""",
    "GET /containers/{id}/snapshots": _SNAPSHOTS,
    "POST /containers/{id}/snapshots": f"""{_SNAPSHOTS} {_WAITING}
        400 VALIDATION_ERROR
        409 IDEMPOTENCY_IN_PROGRESS""",
    "PATCH /containers/{id}/snapshots/{name}": f"{_NAMED} {_WAITING}",
    "PATCH /containers/{id}/snapshots/{name}/alias": f"{_NAMED} 409 OPERATION_STATE_CONFLICT",
    "DELETE /containers/{id}/snapshots/{name}": f"{_NAMED} {_WAITING} 409 SNAPSHOT_ALIAS_AMBIGUOUS",
    "POST /containers": f"""{_CALLERS}
        400 VALIDATION_ERROR INVALID_ID_FORMAT INVALID_CONTAINER_NAME SERVER_CONTAINER_LIMIT
        404 RESOURCE_NOT_FOUND
        409 CONTAINER_NAME_IN_USE SSH_PUBLIC_KEY_IN_USE
        507 INSUFFICIENT_STORAGE""",
    "PATCH /containers/{id}": """
        400 VALIDATION_ERROR INVALID_CONTAINER_NAME
        409 CONTAINER_NAME_IN_USE SSH_PUBLIC_KEY_IN_USE OPERATION_STATE_CONFLICT""",
    "GET /containers/{id}/ssh-private-key": """
        404 RESOURCE_NOT_FOUND 409 OPERATION_STATE_CONFLICT 410 KEY_ALREADY_RETRIEVED""",
    "PUT /containers/{id}/network-rules": "409 HOST_PORT_IN_USE",
    "POST /projects": "409 PROJECT_NAME_IN_USE",
    "GET /proxy/aliases": "400 INVALID_ID_FORMAT",
    "POST /proxy/aliases": """
        400 VALIDATION_ERROR INVALID_ID_FORMAT
        404 CONTAINER_NOT_FOUND
        409 PROXY_ALIAS_IN_USE OPERATION_STATE_CONFLICT""",
    "DELETE /proxy/aliases/{id}": "404 RESOURCE_NOT_FOUND",
    "POST /jobs/{id}/cancel": "404 RESOURCE_NOT_FOUND 409 JOB_NOT_CANCELLABLE",
    "GET /jobs/{id}": "404 RESOURCE_NOT_FOUND",
    "GET /projects/{id}": "404 RESOURCE_NOT_FOUND",
    "GET /servers/{id}": "404 RESOURCE_NOT_FOUND",
}


def spelled(endpoint: str, text: str) -> Iterator[tuple[str, int, str]]:
    """The rows of a text in which codes follow their status."""
    status = 0
    for word in text.split():
        if word.isdigit():
            status = int(word)
        else:
            yield endpoint, status, word


async def test_every_row_of_the_pages_is_played() -> None:
    asked_for = {row for endpoint, text in PAGES.items() for row in spelled(endpoint, text)}
    assert asked_for - PLAYED == set()


async def test_no_row_is_played_twice() -> None:
    assert len({str(row) for row in ROWS}) == len(ROWS)


def refusals(kind: type[ApiError] = ApiError) -> Iterator[type[ApiError]]:
    """Every refusal that the API knows."""
    for below in kind.__subclasses__():
        if hasattr(below, "code"):
            yield below
        yield from refusals(below)


async def test_every_refusal_of_the_code_is_played() -> None:
    known = {(kind.status, kind.code) for kind in refusals()}
    assert known - {(status, code) for _, status, code in PLAYED} == set()


async def test_the_document_has_the_same_rows(stage: Stage) -> None:
    """What /openapi.json says of failures is played, and what is played it says."""
    async with stage.api.client.get(f"{V1}/openapi.json") as answer:
        paths = (await answer.json())["paths"]
    said = {
        (f"{method.upper()} {path}", int(status), code)
        for path, operations in paths.items()
        for method, operation in operations.items()
        for status, response in operation["responses"].items()
        if int(status) >= 400
        for code in response["content"]["application/json"]["schema"]["properties"]["code"]["enum"]
    }
    endpoints = {endpoint_of(route) for route in ROUTES}
    assert said == {row for row in PLAYED if row[0] in endpoints}


@pytest.mark.parametrize("route", ROUTES, ids=endpoint_of)
async def test_every_route_has_the_rows_of_all(route: AnyRoute) -> None:
    endpoint = endpoint_of(route)
    text = f"{_CALLERS} 400 VALIDATION_ERROR 429 RATE_LIMITED"
    text += " 500 INTERNAL_ERROR 503 SERVICE_UNAVAILABLE"
    if "{id}" in endpoint:
        text += f" 400 INVALID_ID_FORMAT 404 {missing_container(endpoint)}"
    if not endpoint.startswith("GET"):
        text += " 413 PAYLOAD_TOO_LARGE 415 UNSUPPORTED_MEDIA_TYPE"
    if endpoint.startswith("POST"):
        text += " 422 IDEMPOTENCY_KEY_REUSED"
    assert set(spelled(endpoint, text)) - PLAYED == set()
    path = endpoint.split()[1]
    assert any(row.endswith(f" {path}") and status == 405 for row, status, _ in PLAYED)


async def test_the_body_that_is_too_large_is_one_byte_too_large() -> None:
    assert LimitsSection().body_bytes == BODY_BYTES_MAX
