"""Strict JSON, API.md 1: every endpoint that takes a body, with every way to get one wrong."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.api.app import ROUTES
from tests.contract.api.contract_images import RATE
from tests.contract.api.contract_proxy import PROXY_CREATE
from tests.contract.api.contract_rows import endpoint_of
from tests.contract.api.contract_special import ALIAS, COPY, CREATE, PATCH, PROJECT, RULES, SNAPSHOT
from tests.contract.api.contract_stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")

WITH_BODY = [endpoint_of(route) for route in ROUTES if route.method != "GET"]

NOT_JSON = (
    b"{",
    b"{} x",
    b"{'a': 1}",
    b'{"a": 1,}',
    b'{"a": NaN}',
    b'{"a": Infinity}',
    b'{"a": -Infinity}',
    b'{"a": 01}',
    b"\xff\xfe{}",
    b'{"a": "\xff"}',
    b'\xef\xbb\xbf{"a": 1}',
    b'{"a": "\\ud800"}',
    b'{"a": "line\nbreak"}',
    b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    b'{"a": ' + b"9" * 5000 + b"}",
    b"[]",
    b"null",
    b"true",
    b"1",
    b'"text"',
)
UNKNOWN = (b'{"bogus": 1}', b'{"bogus": null}', b'{"": 1}')
TWICE = (b'{"a": 1, "a": 1}', b'{"b": {"a": 1, "a": 2}}', b'{"a": 1, "\\u0061": 1}')


@pytest.mark.parametrize("endpoint", WITH_BODY)
async def test_no_strict_json(endpoint: str, stage: Stage) -> None:
    for content in (*NOT_JSON, *UNKNOWN, *TWICE):
        reply = await stage.ask(endpoint, data=content)
        assert reply.refusal == (400, "VALIDATION_ERROR"), content[:40]
        if content in NOT_JSON:
            assert list(reply.body["details"]) == ["body"], content[:40]
        if content in TWICE:
            assert reply.body["details"] == {"a": "is given twice"}, content


@pytest.mark.parametrize("endpoint", WITH_BODY)
async def test_a_hundred_faults_are_told_at_most(endpoint: str, stage: Stage) -> None:
    reply = await stage.ask(endpoint, body={f"bogus-{number}": 1 for number in range(1000)})
    assert reply.refusal == (400, "VALIDATION_ERROR")
    assert len(reply.body["details"]) == 100


MEDIA_TYPES = {
    "application/json": True,
    "application/json; charset=utf-8": True,
    "APPLICATION/JSON": True,
    "application/merge-patch+json": True,
    "application/x-www-form-urlencoded": True,  # curl's default with -d
    "text/plain": False,
    "text/json-ish": False,
    "application/xml": False,
    "multipart/form-data; boundary=x": False,
    "nonsense": False,
}


@pytest.mark.parametrize("endpoint", WITH_BODY)
async def test_media_types(endpoint: str, stage: Stage) -> None:
    """The body is refused once it is read, for the field that is not known."""
    for media_type, is_read in MEDIA_TYPES.items():
        headers = {"Content-Type": media_type}
        reply = await stage.ask(endpoint, data=b'{"bogus": 1}', headers=headers)
        wanted = (400, "VALIDATION_ERROR") if is_read else (415, "UNSUPPORTED_MEDIA_TYPE")
        assert reply.refusal == wanted, media_type


@pytest.mark.parametrize("endpoint", WITH_BODY)
async def test_no_media_type(endpoint: str, stage: Stage) -> None:
    method, path, _ = stage.request(endpoint)
    content, none = b'{"bogus": 1}', ["Content-Type"]
    reply = await stage.api.ask(method, path, data=content, skip_auto_headers=none)
    assert reply.refusal == (400, "VALIDATION_ERROR")


# From the pages: each field and its JSON type; a `?` where null is the same as absent.
TYPES = {
    COPY: {
        "target_project_id": "string",
        "target_server_id": "string?",
        "name": "string?",
        "ssh_public_key": "string?",
        "source_snapshot": "string?",
        "copy_firewall_rules": "boolean?",
        "copy_network_rules": "boolean?",
    },
    CREATE: {
        "project_id": "string",
        "image": "string?",
        "source_path": "string?",
        "name": "string?",
        "server_id": "string?",
        "command": "array?",
        "environment_vars": "object?",
        "ssh_public_key": "string?",
        "autostart": "boolean?",
        "color": "string?",
        "comment": "string?",
        "resources": "object?",
        "ai": "boolean?",
        "hoody_kit": "boolean?",
        "dev_kit": "boolean?",
        "ramdisk": "boolean?",
        "prespawn": "boolean?",
        "is_default": "boolean?",
    },
    PATCH: {
        "name": "string?",
        "color": "string?",
        "comment": "string?",
        "environment_vars": "object?",
        "autostart": "boolean?",
        "ssh_public_key": "string?",
        "sync_schedule": "string?",
    },
    SNAPSHOT: {"alias": "string?", "expiry": "number?"},
    ALIAS: {"alias": "string?"},
    PROJECT: {"name": "string"},
    PROXY_CREATE: {
        "container_id": "string",
        "alias": "string",
        "program": "string",
        "index": "number?",
        "target_path": "string?",
    },
    RATE: {"rating": "number"},
    **{rules: {"rules": "array"} for rules in RULES},
}
VALUES: dict[str, tuple[Any, ...]] = {
    "string": ("text", "1", "true", ""),
    "number": (1, 1.5, 0),
    "boolean": (True, False),
    "array": ([], ["x"]),
    "object": ({}, {"A": "1"}),
}
FIELDS = [(endpoint, field) for endpoint, fields in TYPES.items() for field in fields]


@pytest.mark.parametrize(("endpoint", "field"), FIELDS)
async def test_types_are_exact(endpoint: str, field: str, stage: Stage) -> None:
    """A field that is not known goes with all, so that every request is refused, and says why."""
    kind = TYPES[endpoint][field]
    for other, values in VALUES.items():
        for value in values if other != kind.rstrip("?") else ():
            reply = await stage.ask(endpoint, body={"bogus": 1, field: value})
            assert reply.refusal == (400, "VALIDATION_ERROR")
            assert field in reply.body["details"], (field, value)
    reply = await stage.ask(endpoint, body={"bogus": 1, field: None})
    assert (field in reply.body["details"]) is not kind.endswith("?")


async def test_the_table_has_every_field() -> None:
    models = {endpoint_of(route): route.body for route in ROUTES}
    fields = {endpoint: set(model.model_fields) for endpoint, model in models.items()}
    assert {endpoint: set(TYPES.get(endpoint, ())) for endpoint in fields} == fields
