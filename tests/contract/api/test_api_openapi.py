"""The OpenAPI document and its page: what they say is what the models check, and nothing of
nobody else's is asked for. Every other test of the API holds its answers against the document
(`described.hold`)."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import jsonschema_rs
import pytest
from pydantic import ValidationError
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from daemon.api.app import ROUTES
from daemon.api.documented import ANSWERS
from daemon.api.routing import AnyRoute
from daemon.keys import generate
from tests.contract.api.api_world import V1, Api
from tests.contract.api.contract_rows import endpoint_of
from tests.contract.api.described import DOCUMENT, described_path, hold

ID = "507f1f77bcf86cd799439011"


def component(name: str) -> jsonschema_rs.Draft202012Validator:
    """What the document lets in as this object."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    return jsonschema_rs.Draft202012Validator(schema)


async def test_it_is_served_without_a_token(api: Api) -> None:
    async with api.client.get(f"{V1}/openapi.json") as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")
        assert await answer.json() == DOCUMENT


def test_it_is_a_valid_document() -> None:
    assert [str(fault) for fault in OPENAPI_31_VALIDATOR.iter_errors(DOCUMENT)] == []
    assert DOCUMENT["openapi"].startswith("3.1.")


def test_every_schema_is_one_and_every_reference_leads_somewhere() -> None:
    for name, schema in DOCUMENT["components"]["schemas"].items():
        jsonschema_rs.meta.validate(schema)
        component(name)  # which refuses a reference to nothing
    used = set(re.findall(r"#/components/schemas/(\w+)", str(DOCUMENT)))
    assert used == DOCUMENT["components"]["schemas"].keys()


def test_it_says_how_a_copy_may_stand_to_its_source() -> None:
    shape = DOCUMENT["components"]["schemas"]["ContainerObject"]
    described = shape["properties"]["sync_state"]
    words = [word for one in described["anyOf"] for word in one.get("enum", ())]
    assert len(words) == 3
    assert all(f"`{word}`: " in described["description"] for word in words)


def test_every_route_is_there_and_nothing_else() -> None:
    described = {
        f"{method.upper()} {path}" for path, one in DOCUMENT["paths"].items() for method in one
    }
    assert described == {endpoint_of(route) for route in ROUTES}
    assert {f"{method} {path}" for method, path in ANSWERS} == described


@pytest.mark.parametrize("route", ROUTES, ids=endpoint_of)
def test_an_operation(route: AnyRoute) -> None:
    operation = DOCUMENT["paths"][route.path][route.method.lower()]
    assert operation["summary"] and "`" + route.scope + "`" in operation["description"]
    assert operation["security"] == [{"bearer": [route.scope]}]
    parameters = {(one["in"], one["name"]) for one in operation["parameters"]}
    assert {name for where, name in parameters if where == "query"} == set(route.query.model_fields)
    in_header = {name for where, name in parameters if where == "header"}
    assert ("Idempotency-Key" in in_header) is (route.method == "POST")
    assert ("422" in operation["responses"]) is (route.method == "POST")
    in_path = {name for where, name in parameters if where == "path"}
    assert in_path == set(re.findall(r"{(\w+)}", route.path))
    assert ("requestBody" in operation) is (route.method != "GET")
    assert {"400", "401", "403", "429", "500", "503"} <= operation["responses"].keys()
    assert all(
        int(status) < 400 or "code" in str(operation["responses"][status])
        for status in operation["responses"]
    )


def test_names_of_operations_are_unique() -> None:
    names = [one["operationId"] for path in DOCUMENT["paths"].values() for one in path.values()]
    assert len(set(names)) == len(names) == len(ROUTES)


ALIAS = {"container_id": ID, "alias": "a-1", "program": "web"}
BODIES: list[tuple[str, dict[str, Any], bool]] = [
    ("CreateBody", {"project_id": ID, "source_path": "/x"}, True),
    ("CreateBody", {"project_id": ID, "source_path": "/x", "autostart": None}, True),
    ("CreateBody", {"project_id": ID, "source_path": "/x", "autostart": "yes"}, False),
    ("CreateBody", {"project_id": ID, "source_path": "/x", "bogus": 1}, False),
    ("CreateBody", {"project_id": ID.upper(), "source_path": "/x"}, False),
    ("CreateBody", {"project_id": ID, "source_path": "/x", "name": "no spaces"}, False),
    ("CreateBody", {"project_id": ID, "image": "x", "environment_vars": {"A_1": "b"}}, True),
    ("CreateBody", {"project_id": ID, "image": "x", "environment_vars": {"1A": "b"}}, False),
    ("CreateBody", {"project_id": ID, "image": "x", "resources": {"pids": 0}}, False),
    ("CreateBody", {"project_id": ID, "image": "x", "command": []}, False),
    ("CopyBody", {"target_project_id": ID}, True),
    ("CopyBody", {"target_project_id": ID, "ssh_public_key": generate("").public_text}, True),
    ("CopyBody", {"target_project_id": ID, "ssh_public_key": 7}, False),
    ("CopyBody", {"target_project_id": ID, "source_snapshot": "a/b"}, False),
    ("CopyBody", {}, False),
    ("PatchBody", {}, True),
    ("PatchBody", {"sync_schedule": None, "color": "#3B82F6"}, True),
    ("PatchBody", {"sync_schedule": "hourly"}, False),
    ("SnapshotBody", {"alias": "v1", "expiry": 0.5}, True),
    ("SnapshotBody", {"alias": "snap-1"}, False),
    ("SnapshotBody", {"expiry": 0}, False),
    ("AliasBody", {"alias": None}, True),
    ("AliasBody", {}, False),
    ("NetworkBody", {"rules": [{"type": "forward"}]}, False),
    ("ProxyAliasBody", ALIAS, True),
    ("ProxyAliasBody", {**ALIAS, "index": 0, "target_path": "/a b/\u00e9?c#d"}, True),
    ("ProxyAliasBody", {**ALIAS, "alias": "-a"}, False),
    ("ProxyAliasBody", {**ALIAS, "index": 65536}, False),
    ("ProxyAliasBody", {**ALIAS, "target_path": "/\x1f"}, False),
    ("RatingBody", {"rating": 0}, True),
    ("RatingBody", {"rating": 4.567}, True),
    ("RatingBody", {"rating": 4.5678}, False),
    ("RatingBody", {"rating": 5.001}, False),
    ("RatingBody", {"rating": "5"}, False),
    ("RatingBody", {}, False),
]


@pytest.mark.parametrize(("name", "body", "is_fine"), BODIES)
def test_the_document_lets_in_what_the_model_does(
    name: str, body: dict[str, Any], is_fine: bool
) -> None:
    (model,) = {route.body for route in ROUTES if route.body.__name__ == name}
    assert component(name).is_valid(body) is is_fine
    if is_fine:
        model.model_validate(body)
    else:
        with pytest.raises(ValidationError):
            model.model_validate(body)


def test_a_parameter_is_no_null_and_within_its_limits() -> None:
    parameters = DOCUMENT["paths"]["/jobs"]["get"]["parameters"]
    schemas = {one["name"]: one["schema"] for one in parameters}
    assert schemas["limit"] | {"title": ""} == {
        "default": 20,
        "maximum": 100,
        "minimum": 1,
        "title": "",
        "type": "integer",
    }
    assert schemas["container_id"] == {"type": "string", "pattern": "^[0-9a-f]{24}$"}
    assert schemas["state"] == {"$ref": "#/components/schemas/JobState"}


FAILURE = {"error": "Not Found", "message": "m"}


@pytest.mark.parametrize(
    ("status", "body", "fault"),
    [
        (418, {}, "418 is not documented"),
        (404, {**FAILURE, "statusCode": 404, "code": "GONE_FISHING"}, "GONE_FISHING"),
        (404, {**FAILURE, "statusCode": 400, "code": "CONTAINER_NOT_FOUND"}, "400"),
        (401, {**FAILURE, "statusCode": 401, "code": "MISSING_TOKEN"}, "401 without WWW-Auth"),
        (200, {"statusCode": 200, "message": "m", "data": {"id": ID}}, "required property"),
        (200, {"statusCode": 200, "message": "m"}, "data"),
    ],
)
def test_holding_finds_what_is_not_documented(
    status: int, body: dict[str, Any], fault: str
) -> None:
    with pytest.raises(AssertionError, match=fault):
        hold("GET", f"{V1}/containers/{ID}", status, {}, body)


def test_holding_finds_a_header_that_is_not_documented() -> None:
    body = {**FAILURE, "statusCode": 404, "code": "CONTAINER_NOT_FOUND"}
    hold("GET", f"{V1}/containers/{ID}", 404, {"Date": "now"}, body)
    with pytest.raises(AssertionError, match="404 with Location, which is not documented"):
        hold("GET", f"{V1}/containers/{ID}", 404, {"Location": "/x"}, body)


@pytest.mark.parametrize("route", ROUTES, ids=endpoint_of)
def test_where_a_replay_may_come(route: AnyRoute) -> None:
    """A refusal is replayed only where it is how a job ended that was waited for."""
    responses = DOCUMENT["paths"][route.path][route.method.lower()]["responses"]
    replayed = {
        int(status)
        for status, response in responses.items()
        if "Idempotency-Replayed" in response.get("headers", {})
    }
    ends = {404, 409, 500, 507} if route.ending else set()
    success = {ANSWERS[route.method, route.path].status} if route.method == "POST" else set()
    assert replayed == success | ends


def test_a_path_is_found_with_what_stands_in_it() -> None:
    assert described_path(f"/containers/{ID}/snapshots/a%2Fb") == (
        "/containers/{id}/snapshots/{name}"
    )
    assert described_path("/nothing") is None


class Page(HTMLParser):
    """What a page consists of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


async def test_the_page_shows_all_of_it_and_asks_for_nothing_else(api: Api) -> None:
    async with api.client.get("/docs") as answer:
        assert (answer.status, answer.content_type) == (200, "text/html")
        policy, text = answer.headers["Content-Security-Policy"], await answer.text()
    page = Page(text)
    for route in ROUTES:
        assert f"{route.method} {V1}{route.path}" in page.words
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert DOCUMENT["components"]["schemas"].keys() <= ids
    links = {attributes["href"] for tag, attributes in page.tags if tag == "a"}
    assert {link for link in links if link and link[1:] not in ids} == {f"{V1}/openapi.json"}
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "img", "iframe", "form", "object", "base"}
    assert not any({"src", "style", "onclick"} & attributes.keys() for _, attributes in page.tags)
    style = re.search("<style>(.*?)</style>", text, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy and "unsafe" not in policy
