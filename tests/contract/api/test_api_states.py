"""API.md's table *State and verb*: the code's table against the page's, then every cell by HTTP."""

from __future__ import annotations

import pytest
from api_world import Api
from played_engine import playing

from daemon.model import Container, Status, new_id
from daemon.verbs import ALLOWED, Situation, Verb

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


@pytest.mark.parametrize(("verb", "situation", "works"), CELLS, ids=str)
async def test_cell(verb: Verb, situation: Situation, works: bool, api: Api) -> None:
    assert (verb in ALLOWED[situation]) is works
    status, has_generation = COLUMNS[situation]
    source = await api.world.container("source")
    generation_id = new_id() if has_generation else None
    subject = await api.world.copy_of(source, status=status, generation_id=generation_id)
    await api.world.snapshot(subject, "snap-1")
    before = await api.world.stored(subject.id), await api.world.listed(subject)
    async with playing(api.world):
        for method, path, body in _requests(api, verb, subject):
            reply = await api.ask(method, path, body)
            if works:
                assert reply.status in (200, 201), reply.body
            else:
                assert reply.refusal == (409, "OPERATION_STATE_CONFLICT")
                assert reply.body["details"]["status"] == status
    if not works:
        assert (await api.world.stored(subject.id), await api.world.listed(subject)) == before
        assert await api.world.all_jobs() == []


def _requests(api: Api, verb: Verb, subject: Container) -> list[tuple[str, str, object]]:
    one = f"/containers/{subject.id}"
    if verb is Verb.COPY_FROM:
        return [("POST", f"{one}/copy", {"target_project_id": api.world.home.id})]
    if verb is Verb.EDIT:
        rules: dict[str, object] = {"rules": []}
        return [
            ("PATCH", one, {"color": "#000000"}),
            ("PUT", f"{one}/firewall-rules", rules),
            ("PUT", f"{one}/network-rules", rules),
        ]
    if verb is Verb.SNAPSHOT:
        return [("POST", f"{one}/snapshots", None), ("PATCH", f"{one}/snapshots/snap-1", None)]
    if verb is Verb.LIST:
        snapshot = f"{one}/snapshots/snap-1"
        return [("PATCH", f"{snapshot}/alias", {"alias": "x"}), ("DELETE", snapshot, None)]
    if verb is Verb.DELETE:
        return [("DELETE", one, None)]
    if verb is Verb.GET:
        return [("GET", one + end, None) for end in ("", "/storage", "/snapshots")]
    return [("POST", f"{one}/{verb}", None)]


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
