"""schemathesis asks two real daemons whatever the OpenAPI document lets one ask, and what it does
not: no answer is a 5xx, and each is one that the document has."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.parameters import ParameterLocation
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from daemon.api.app import ROUTES
from tests.acceptance.cluster import Cluster

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
CASES_MIN = 2000
CASES_EACH = 34  # of an endpoint, in each mode
COPIES = 3  # on each server
ASK_SECONDS = 60
WAIT_SECONDS_MAX = 1
ALIAS = "first"

ENDLESS = "/events"  # a stream without an end is for the tests of streams
ENDPOINTS = [
    f"{route.method} {route.path}"
    for route in sorted(ROUTES, key=lambda route: route.method == "DELETE")
    if route.path != ENDLESS
]
FAR = {200, 201, 204, 409, 410}
"""What shows that a case got past all that chance never hits; in which state it finds what it
names is chance too."""


@dataclass
class Ground:
    """Two daemons, and values that name something there, by the field that takes them."""

    urls: list[str]
    session: requests.Session
    schema: BaseSchema
    tree: str
    servers: list[str]

    def ids(self, kind: str) -> list[str]:
        """The newest objects of a kind."""
        answer = self.session.get(f"{self.urls[0]}/{kind}?limit=50", timeout=ASK_SECONDS)
        return [found["id"] for found in answer.json()["data"][kind]]

    def known(self) -> dict[str, list[str]]:
        """Values that are not refused as unknown."""
        known = {kind: self.ids(kind) for kind in ("containers", "jobs", "projects", "servers")}
        projects = known["projects"][:2]
        return known | {
            "name": [ALIAS],
            "source_snapshot": [ALIAS],
            "project_id": projects,
            "target_project_id": projects,
            "server_id": self.servers,
            "target_server_id": self.servers,
            "source_path": [self.tree],
        }


async def fill(cluster: Cluster, tree: str) -> None:
    """A container that lists a snapshot, and copies of it on both servers."""
    async with cluster.api() as api:
        source = await api.create(tree)
        await api.snapshot(source, alias=ALIAS)
        for daemon in cluster.daemons * COPIES:
            await api.copy(source, daemon.server_id)


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    """The daemons that all cases are asked of, in turn."""
    with (
        tempfile.TemporaryDirectory(prefix="hoody-") as name,
        Cluster(Path(name), "dir", 2) as cluster,
        requests.Session() as session,
    ):
        tree = Path(cluster.tree("tree"))
        tree.mkdir()
        (tree / "file").write_text("content")
        asyncio.run(fill(cluster, str(tree)))
        token = cluster.daemons[0].command("token", "--admin").strip()
        session.headers["Authorization"] = f"Bearer {token}"
        urls = [f"{daemon.url}/api/v1" for daemon in cluster.daemons]
        schema = schemathesis.openapi.from_dict(session.get(f"{urls[0]}/openapi.json").json())
        servers = [daemon.server_id for daemon in cluster.daemons]
        yield Ground(urls, session, schema, str(tree), servers)


def test_there_are_enough_cases() -> None:
    assert len(ENDPOINTS) * len(MODES) * CASES_EACH >= CASES_MIN


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_every_answer_is_documented(ground: Ground, endpoint: str) -> None:
    method, path = endpoint.split()
    operation, known = ground.schema[path][method], ground.known()
    answers: Counter[int] = Counter()

    def ask(case: Case, number: int) -> None:
        if number % 4:  # the others are left as they were drawn
            aim(case, known, number)
        calm(case)
        url = ground.urls[number % len(ground.urls)]
        response = case.call(base_url=url, session=ground.session, timeout=ASK_SECONDS)
        answers[response.status_code] += 1
        case.validate_response(response, checks=CHECKS)

    for mode in MODES:
        run = given(case=operation.as_strategy(generation_mode=mode), number=st.integers(0, 999))
        quiet = settings(
            max_examples=CASES_EACH,
            phases=[Phase.generate],
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        quiet(run(ask))()
    assert answers.total() >= len(MODES) * CASES_EACH
    assert FAR & answers.keys(), f"no case got far: {answers}"


def aim(case: Case, known: dict[str, list[str]], number: int) -> None:
    """Puts values that name something where any would do: chance never hits an id."""

    def pick(name: str) -> str:
        return known[name][number // 4 % len(known[name])]

    if is_valid(case, ParameterLocation.PATH) and case.path_parameters:
        kind = case.path.split("/")[1]
        values = {"id": pick(kind), "name": pick("name")}
        case.path_parameters = {name: values[name] for name in case.path_parameters}
    if is_valid(case, ParameterLocation.BODY) and isinstance(case.body, dict):
        if "project_id" in case.body:
            case.body = {**case.body, "image": None, "source_path": ""}
        if "rules" in case.body and number % 2:
            case.body = {"rules": []}
        case.body = {
            name: pick(name) if name in known and value is not None and name != "name" else value
            for name, value in case.body.items()
            if name != "ssh_public_key"
        }


def calm(case: Case) -> None:
    """Nobody waits long for a job that is not about to end."""
    timeout: Any = (case.query or {}).get("timeout")
    if isinstance(timeout, int) and timeout > WAIT_SECONDS_MAX and case.query is not None:
        case.query["timeout"] = min(timeout, 300) % (WAIT_SECONDS_MAX + 1)


def is_valid(case: Case, where: ParameterLocation) -> bool:
    """Whether that part of the request is as the document wants it."""
    assert case.meta is not None
    component = case.meta.components.get(where)
    return component is None or component.mode is GenerationMode.POSITIVE
