"""Proxy aliases by HTTP; what is refused is in contract_proxy.py."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from daemon.auth import Scope
from daemon.model import Container
from daemon.store import containers
from tests.contract.api.api_world import Api

PATH = "/proxy/aliases"


def body(container: Container, alias: str = "prod", **fields: Any) -> dict[str, Any]:
    return {"container_id": container.id, "alias": alias, "program": "web", **fields}


async def listed(api: Api, **params: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await api.get(PATH, params=params)).data["aliases"]
    return found


async def test_an_alias_from_first_to_last(api: Api) -> None:
    web = await api.world.container()
    reply = await api.post(PATH, body(web, index=3, target_path="/app?a=b"))
    assert reply.status == 201
    made = reply.data
    assert {key: made[key] for key in made.keys() - {"id", "created_at"}} == {
        "project_id": web.project_id,
        "container_id": web.id,
        "alias": "prod",
        "program": "web",
        "index": 3,
        "target_path": "/app?a=b",
    }
    assert await listed(api) == [made]
    reply = await api.delete(f"{PATH}/{made['id']}")
    assert (reply.status, reply.data) == (200, made)
    assert await listed(api) == []
    reply = await api.delete(f"{PATH}/{made['id']}")
    assert reply.refusal == (404, "RESOURCE_NOT_FOUND")


async def test_the_first_instance_and_the_root_by_default(api: Api) -> None:
    web = await api.world.container()
    for alias, fields in (("a", {}), ("b", {"index": None, "target_path": None})):
        made = (await api.post(PATH, body(web, alias, **fields))).data
        assert (made["index"], made["target_path"]) == (1, "/")


@pytest.mark.parametrize(
    "fields",
    [
        {"alias": "a"},
        {"alias": "0"},
        {"alias": "a--b-1"},
        {"alias": "a" * 63},
        {"program": "Web_2-x"},
        {"program": "w" * 63},
        {"index": 0},
        {"index": 65535},
        {"target_path": "/caf\u00e9/{id} \U0001f680"},
        {"target_path": "/" * 1024},
    ],
    ids=str,
)
async def test_the_bounds_of_fields(fields: dict[str, Any], api: Api) -> None:
    web = await api.world.container()
    made = (await api.post(PATH, body(web) | fields)).data
    assert made | fields == made


async def test_a_name_belongs_to_a_project(api: Api) -> None:
    """It can lead elsewhere once it is deleted, as the guide has it."""
    world = api.world
    old, new = await world.container("old"), await world.container("new")
    beside = await world.container("old", project_id=world.work.id)
    made = (await api.post(PATH, body(old))).data
    assert (await api.post(PATH, body(beside))).status == 201
    assert (await api.post(PATH, body(new))).refusal == (409, "PROXY_ALIAS_IN_USE")
    assert (await api.delete(f"{PATH}/{made['id']}")).status == 200
    again = (await api.post(PATH, body(new))).data
    assert again["container_id"] == new.id
    assert again["id"] != made["id"]


async def test_of_many_at_once_one_gets_the_name(api: Api) -> None:
    web = [await api.world.container(f"web-{number}") for number in range(8)]
    replies = await asyncio.gather(*(api.post(PATH, body(one)) for one in web))
    assert sorted(reply.status for reply in replies) == [201] + [409] * 7
    assert len(await listed(api)) == 1


async def test_lists_are_filtered(api: Api) -> None:
    world = api.world
    web, beside = await world.container(), await world.container(project_id=world.work.id)
    for container, alias in ((web, "a"), (web, "b"), (beside, "c")):
        assert (await api.post(PATH, body(container, alias))).status == 201

    async def names(**params: str) -> str:
        return "".join(sorted(one["alias"] for one in await listed(api, **params)))

    assert await names() == "abc"
    assert await names(container_id=web.id) == "ab"
    assert await names(project_id=world.work.id) == "c"
    assert await names(project_id=world.work.id, container_id=web.id) == ""
    assert await names(container_id=world.bob.id) == ""


async def test_somebody_elses_alias_is_not_there(api: Api) -> None:
    """An administrator sees everybody's."""
    world = api.world
    alias = await world.alias(await world.container())
    bob, admin = world.token(world.bob), world.admin
    for params in ({}, {"container_id": alias.container_id}, {"project_id": alias.project_id}):
        assert (await api.get(PATH, token=bob, params=params)).data["aliases"] == []
        assert len((await api.get(PATH, token=admin, params=params)).data["aliases"]) == 1
    reply = await api.delete(f"{PATH}/{alias.id}", token=bob)
    assert reply.refusal == (404, "RESOURCE_NOT_FOUND")
    assert (await api.delete(f"{PATH}/{alias.id}", token=admin)).status == 200


async def test_the_scope_proxy_is_enough_to_make_and_delete(api: Api) -> None:
    web, only = await api.world.container(), api.world.token(scopes=[Scope.PROXY])
    made = (await api.post(PATH, body(web), token=only)).data
    assert (await api.delete(f"{PATH}/{made['id']}", token=only)).status == 200


async def test_aliases_go_with_the_container_and_are_no_copys(api: Api) -> None:
    world = api.world
    web = await world.container()
    alias = await world.alias(web)
    asked = {"target_project_id": world.work.id}
    copied = (await api.post(f"/containers/{web.id}/copy", asked)).data
    assert await listed(api, container_id=copied["id"]) == []
    assert (await api.delete(f"/containers/{web.id}")).status == 200
    assert [one["id"] for one in await listed(api)] == [alias.id]  # until the job has run
    async with world.db.write() as tx:
        await containers.delete(tx, web.id)
    assert await listed(api) == []
