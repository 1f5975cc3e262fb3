"""API.md's table *State and verb*: the code's table against the page's, then every cell by HTTP."""

from __future__ import annotations

import pytest

from daemon.api.app import ROUTES
from daemon.model import Status, new_id
from daemon.verbs import ALLOWED, Situation, Verb
from tests.contract.api.api_world import Api
from tests.contract.api.contract_rows import endpoint_of
from tests.contract.api.contract_special import (
    ALIAS,
    COPY,
    DELETE,
    DROP,
    KEY,
    PATCH,
    RESTORE,
    RULES,
    SNAPSHOT,
    SYNC,
)
from tests.contract.api.contract_stage import Stage
from tests.contract.api.played_engine import playing

COLUMNS: dict[Situation, tuple[Status, bool]] = {
    Situation.CREATING: (Status.CREATING, False),
    Situation.FIRST_COPY: (Status.COPYING, False),
    Situation.SYNCING: (Status.COPYING, True),
    Situation.RESTORING: (Status.RESTORING, True),
    Situation.RUNNING: (Status.RUNNING, True),
    Situation.STOPPED: (Status.STOPPED, True),
    Situation.ERROR: (Status.ERROR, False),
    Situation.DELETING: (Status.DELETING, True),
}
# As on the page, column by column; "yes" and "x".
PAGE = {
    Verb.COPY_FROM: "x   x   yes yes yes yes x   x",
    Verb.SYNC: "     x   x   x   x   yes yes yes x",
    Verb.SNAPSHOT: " x   x   x   x   yes yes x   x",
    Verb.LIST: "     yes yes yes yes yes yes yes x",
    Verb.START: "    x   x   x   x   x   yes x   x",
    Verb.STOP: "     x   x   x   x   yes x   x   x",
    Verb.RESTART: "  x   x   x   x   yes x   x   x",
    Verb.EDIT: "     yes yes yes yes yes yes yes x",
    Verb.DELETE: "   yes yes yes yes yes yes yes x",
    Verb.GET: "      yes yes yes yes yes yes yes yes",
}
CELLS = [
    (verb, situation, cell == "yes")
    for verb, line in PAGE.items()
    for situation, cell in zip(COLUMNS, line.split(), strict=True)
]


def test_the_table_has_every_cell() -> None:
    assert set(ALLOWED) == set(Situation)
    assert len(CELLS) == len(Situation) * len(Verb)


# Every endpoint about one container, but those of its private key and its job.
ENDPOINTS = {
    Verb.COPY_FROM: (COPY,),
    Verb.SYNC: (SYNC,),
    Verb.SNAPSHOT: (SNAPSHOT, RESTORE),
    Verb.LIST: (ALIAS, DROP),
    Verb.START: ("POST /containers/{id}/start",),
    Verb.STOP: ("POST /containers/{id}/stop",),
    Verb.RESTART: ("POST /containers/{id}/restart",),
    Verb.EDIT: (PATCH, *RULES),
    Verb.DELETE: (DELETE,),
    Verb.GET: tuple(
        f"GET /containers/{{id}}{end}"
        for end in ("", "/storage", "/snapshots", "/firewall-rules", "/network-rules")
    ),
}


def test_every_endpoint_has_a_verb() -> None:
    of_containers = {endpoint_of(route) for route in ROUTES if "/containers/{id}" in route.path}
    assert {one for each in ENDPOINTS.values() for one in each} == of_containers - {KEY}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("verb", "situation", "works"), CELLS, ids=str)
async def test_cell(verb: Verb, situation: Situation, works: bool, stage: Stage) -> None:
    assert (verb in ALLOWED[situation]) is works
    status, has_generation = COLUMNS[situation]
    columns = {"status": status, "generation_id": new_id() if has_generation else None}
    subject = await stage.container(source_container_id=stage.web.id, **columns)
    for endpoint in ENDPOINTS[verb]:
        if works:
            method, path, body = stage.request(endpoint)
            path = path.replace(stage.web.id, subject.id).replace(stage.copied.id, subject.id)
            async with playing(stage.world):
                reply = await stage.api.ask(method, path, body)
            assert reply.status in (200, 201), reply.body
        else:
            reply = await stage.ask(endpoint, id=subject.id)
            assert reply.refusal == (409, "OPERATION_STATE_CONFLICT")
            assert reply.body["details"]["status"] == status


@pytest.mark.parametrize("verb", ["start", "stop", "restart", "sync"])
async def test_one_job_at_a_time(verb: str, api: Api) -> None:
    source = await api.world.container("source")
    status = Status.STOPPED if verb == "start" else Status.RUNNING
    subject = await api.world.copy_of(source, status=status)
    await api.world.job(subject)
    reply = await api.post(f"/containers/{subject.id}/{verb}")
    assert reply.refusal == (409, "OPERATION_STATE_CONFLICT")
    assert reply.body["details"] == {"status": status.value}
    assert await api.world.stored(subject.id) == subject


async def test_sync_of_a_source_that_goes_away(api: Api) -> None:
    source = await api.world.container("source", status=Status.DELETING)
    copied = await api.world.copy_of(source)
    reply = await api.post(f"/containers/{copied.id}/sync")
    assert reply.refusal == (409, "OPERATION_STATE_CONFLICT")
