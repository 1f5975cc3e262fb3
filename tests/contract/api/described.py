"""Holds answers against the OpenAPI document: whatever a test of the API asks, the endpoint must
be described, and answer with a status, headers and a body that its description has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import jsonschema_rs

from daemon.api.app import ROUTES
from daemon.api.openapi import document

DOCUMENT: dict[str, Any] = document(ROUTES)
BASE = DOCUMENT["servers"][0]["url"]
TELLING = {"Location", "Retry-After", "WWW-Authenticate", "Idempotency-Replayed"}
"""The headers that tell a client something: none comes where the document has it not."""


def hold(method: str, raw_path: str, status: int, headers: Mapping[str, str], body: Any) -> None:
    """Fails where the answer is not one that the document has for the request. What is asked
    beside the described endpoints is the router's to refuse."""
    path = described_path(raw_path.removeprefix(BASE))
    operation = DOCUMENT["paths"].get(path, {}).get(method.lower())
    if operation is None:
        return
    asked = f"{method} {path}"
    assert str(status) in operation["responses"], f"{asked}: {status} is not documented: {body}"
    described = operation["responses"][str(status)].get("headers", {})
    for name, header in described.items():
        assert name in headers or not header.get("required"), f"{asked}: {status} without {name}"
    for name in TELLING & headers.keys() - described.keys():
        raise AssertionError(f"{asked}: {status} with {name}, which is not documented")
    fault = next(_validator(path, method.lower(), status).iter_errors(body), None)
    assert fault is None, f"{asked}: {status}: {fault}"


def described_path(raw_path: str) -> str | None:
    """The document's path that a request's is one of."""
    return next((path for path, pattern in _patterns() if pattern.fullmatch(raw_path)), None)


@cache
def _patterns() -> list[tuple[str, re.Pattern[str]]]:
    return [
        (path, re.compile(re.sub(r"{\w+}", "[^/]+", path))) for path in sorted(DOCUMENT["paths"])
    ]


@cache
def _validator(path: str, method: str, status: int) -> jsonschema_rs.Draft202012Validator:
    answer = DOCUMENT["paths"][path][method]["responses"][str(status)]
    schema = answer["content"]["application/json"]["schema"]
    return jsonschema_rs.Draft202012Validator({**schema, "components": DOCUMENT["components"]})
