"""schemathesis asks two real daemons whatever the OpenAPI document lets one ask, and what it does
not: no answer is a 5xx, and each is one that the document has."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
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
from daemon.api.documented import ANSWERS
from daemon.config import load
from daemon.model import new_id
from daemon.store import accounts, images
from daemon.store.database import Database
from tests.acceptance.cluster import Cluster
from tests.contract.images.shelf import PNG, UBUNTU

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
COPIES = 2  # on each server
ALIASES = 4  # to delete
IMAGES = 3  # free on each server, and as many that are not
JOBS_ENOUGH = 8  # that an endpoint makes: each costs as much as a hundred refusals
ASK_SECONDS = 60
WAIT_SECONDS_MAX = 1

ENDLESS = "/events"  # a stream without an end is for the tests of streams
LATE = (
    "POST /containers/{id}/stop",
    "POST /containers/{id}/start",
    "DELETE /containers/{id}/snapshots/{name}",
    "DELETE /containers/{id}",
)
"""Each after what it would spoil: what is stopped can be started, and no longer restarted."""

ENDPOINTS = [
    *(name for route in ROUTES if (name := f"{route.method} {route.path}") not in LATE),
    *LATE,
]
ENDPOINTS.remove(f"GET {ENDLESS}")

FAR = {"POST /jobs/{id}/cancel": 409}
"""How far a case must get where that is no success: every job has ended by then."""


@dataclass
class Ground:
    """Two daemons, and values that name something there, by the field that takes them."""

    urls: list[str]
    session: requests.Session
    schema: BaseSchema
    known: dict[str, list[str]]


async def fill(cluster: Cluster, tree: str) -> dict[str, list[str]]:
    """A container that lists a snapshot, and copies of it on both servers; what names them."""
    servers = [daemon.server_id for daemon in cluster.daemons]
    async with cluster.api() as api:
        source = await api.create(tree)
        snapshot = await api.snapshot(source)
        copies = [await api.copy(source, server_id) for server_id in servers * COPIES]
        project = await api.call("POST", "/projects", name="another")
        projects = [api.project_id, str(project["id"])]
        leading = {"container_id": source, "program": "web"}
        aliases = [
            await api.call("POST", "/proxy/aliases", alias=f"known-{number}", **leading)
            for number in range(ALIASES)
        ]
    known = [source, *(copy_id for copy_id, _ in copies)]
    return {
        "images": await shelve(load(str(cluster.daemons[0].config_path), {}).database.url, servers),
        "containers": known,
        "container_id": known,
        "proxy": [str(alias["id"]) for alias in aliases],
        "jobs": [job["id"] for _, job in copies],
        "projects": projects,
        "servers": servers,
        "name": [snapshot["name"]],
        "source_snapshot": [snapshot["name"]],
        "project_id": projects,
        "target_project_id": projects,
        "server_id": servers,
        "target_server_id": servers,
        "source_path": [tree],
    }


async def shelve(url: str, servers: list[str]) -> list[str]:
    """Images with icons, every second one with a price, and the money for them."""
    database = Database(url)
    made = [
        replace(UBUNTU, id=new_id(), server_id=server_id, alias=new_id(), price_cents=cents)
        for server_id in servers
        for cents in (0, 599) * IMAGES
    ]
    async with database.write() as tx:
        for image in made:
            await images.insert(tx, image, PNG)
        user = await accounts.first_user(tx)
        assert user is not None
        await accounts.add_to_balance(tx, user.id, 599 * IMAGES)
    await database.close()
    return [image.id for image in made]


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
        known = asyncio.run(fill(cluster, str(tree)))
        token = cluster.daemons[0].command("token", "--admin").strip()
        session.headers["Authorization"] = f"Bearer {token}"
        urls = [f"{daemon.url}/api/v1" for daemon in cluster.daemons]
        schema = schemathesis.openapi.from_dict(session.get(f"{urls[0]}/openapi.json").json())
        yield Ground(urls, session, schema, known)


def test_there_are_enough_cases() -> None:
    assert len(ENDPOINTS) * len(MODES) * CASES_EACH >= CASES_MIN


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_every_answer_is_documented(ground: Ground, endpoint: str) -> None:
    method, path = endpoint.split()
    operation, documented = ground.schema[path][method], ANSWERS[method, path]
    answers: Counter[int] = Counter()

    def ask(case: Case, number: int) -> None:
        enough = documented.has_job and answers[documented.status] >= JOBS_ENOUGH
        if number % 4 and not enough:  # the others are left as they were drawn
            aim(case, ground.known, number)
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
    assert FAR.get(endpoint, documented.status) in answers, f"no case got far: {answers}"


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
