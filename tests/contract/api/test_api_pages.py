"""Lists come in pages: newest first, ties by id, and nothing but what was asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import pytest
from sqlalchemy import event

from daemon.model import JobType, Project, new_id, now
from daemon.store import accounts, servers
from tests.contract.api.api_world import Api, World, make_server

Make = Callable[[World, datetime], Awaitable[str]]


async def container(world: World, at: datetime) -> str:
    return (await world.container(f"c-{new_id()}", created_at=at)).id


async def job(world: World, at: datetime) -> str:
    of = (await world.all_containers() or [await world.container()])[0]
    return (await world.job(of, JobType.SNAPSHOT_DELETE, created_at=at)).id


async def project(world: World, at: datetime) -> str:
    made = Project(new_id(), world.alice.id, f"p-{new_id()}", "p", at)
    async with world.db.write() as tx:
        await accounts.put_project(tx, made)
    return made.id


async def server(world: World, at: datetime) -> str:
    made = make_server(f"s-{new_id()}", created_at=at)
    async with world.db.write() as tx:
        await servers.put(tx, made)
    return made.id


async def alias(world: World, at: datetime) -> str:
    of = (await world.all_containers() or [await world.container()])[0]
    return (await world.alias(of, f"a-{new_id()}", created_at=at)).id


LISTS: dict[str, Make] = {
    "containers": container,
    "jobs": job,
    "projects": project,
    "proxy/aliases": alias,
    "servers": server,
}
EACH = pytest.mark.parametrize("name", LISTS)


def key_of(name: str) -> str:
    """Under which a list stands in its page."""
    return name.rpartition("/")[2]


async def ids(api: Api, name: str, **params: object) -> list[str]:
    return [one["id"] for one in (await api.get(f"/{name}", params=params)).data[key_of(name)]]


@EACH
async def test_newest_first_and_ties_by_id(name: str, api: Api) -> None:
    """The world's own projects and servers are older."""
    at = now() + timedelta(hours=1)
    made = []
    for hours in (1, 3, 2, 3, 1, 3):
        moment = at + timedelta(hours=hours)
        made.append((moment, await LISTS[name](api.world, moment)))
    by_id = sorted(made, key=lambda one: one[1])
    wanted = [one for _, one in sorted(by_id, key=lambda one: one[0], reverse=True)]
    assert (await ids(api, name, limit=6)) == wanted
    pages = [await ids(api, name, limit=2, page=page) for page in (1, 2, 3)]
    assert pages == [wanted[:2], wanted[2:4], wanted[4:]]
    data = (await api.get(f"/{name}", params={"limit": 2, "page": 2})).data
    assert data.keys() == {key_of(name), "pagination"}
    total = len(await ids(api, name, limit=100))
    wanted_pages = -(-total // 2)
    assert data["pagination"] == {
        "total": total,
        "page": 2,
        "limit": 2,
        "totalPages": wanted_pages,
    }


@EACH
async def test_past_the_end_is_empty(name: str, api: Api) -> None:
    for page in (2, 999_999_999):
        data = (await api.get(f"/{name}", params={"page": page, "limit": 100})).data
        assert (data[key_of(name)], data["pagination"]["page"]) == ([], page)


@EACH
async def test_twenty_by_default(name: str, api: Api) -> None:
    for _ in range(21):
        await LISTS[name](api.world, now())
    data = (await api.get(f"/{name}")).data
    assert len(data[key_of(name)]) == data["pagination"]["limit"] == 20
    assert data["pagination"]["page"] == 1
    assert len(await ids(api, name, limit=100)) == data["pagination"]["total"] > 20


OUTSIDE = ["page=0", "page=-1", "page=1.0", "page=%2B1", "page=", "page=1&page=1", "page=x"]
OUTSIDE += ["limit=0", "limit=101", "limit=1e1", "limit=%201", "limit=9999999999", "limit=%D9%A1"]
OUTSIDE += ["bogus=1", "Page=1", "page[]=1", "&=1", "sort=name"]


@EACH
async def test_outside_of_the_bounds(name: str, api: Api) -> None:
    for query in OUTSIDE:
        reply = await api.get(f"/{name}?{query}")
        assert reply.refusal == (400, "VALIDATION_ERROR"), query
        assert reply.body["details"]
    for query in ("page=1", "limit=1", "limit=100", "page=1&limit=100", "page=001"):
        assert (await api.get(f"/{name}?{query}")).status == 200, query


async def test_a_long_list_takes_no_more_statements_than_a_short_one(api: Api) -> None:
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    source = await api.world.container()
    copies = [await api.world.copy_of(source, f"copy-{number}") for number in range(10)]
    await api.world.job(copies[3])
    event.listen(api.world.db._engine.sync_engine, "before_cursor_execute", note)
    taken = []
    for limit in (2, 11):
        statements.clear()
        assert len(await ids(api, "containers", limit=limit)) == limit
        taken.append(len(statements))
    assert taken[1] <= taken[0]
    shown = (await api.get("/containers", params={"limit": 11})).data["containers"]
    busy = [one["id"] for one in shown if one["current_job_id"]]
    assert busy == [copies[3].id]
    assert {one["sync_state"] for one in shown} == {None, "behind"}
