"""POST /containers with an image: who may, what is written, and what stands in the way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from daemon.api.access import FREE_BYTES_MIN
from daemon.model import DatasetRow, JobType, Role, Server, User, new_id
from daemon.model_images import Image, OwnedImage
from daemon.store import datasets, images, rows, schema, servers
from tests.contract.api.api_world import Api, make_server
from tests.images import image_of

GUID = "12345678901234567890"


async def an_image(api: Api, **columns: Any) -> Image:
    """One that lives on `here`, frozen unless told otherwise."""
    given = {"guid": GUID, "size_bytes": 7} | columns
    made = image_of(given.pop("server_id", api.world.here.id), "debian/12", **given)
    async with api.world.db.write() as tx:
        await images.insert(tx, made)
    return made


async def owns(api: Api, user: User, image: Image) -> None:
    async with api.world.db.write() as tx:
        await rows.add(tx, schema.owned_images, OwnedImage(user.id, image.id))


async def creating(api: Api, image: str, token: str = "alice", **body: Any) -> Any:
    fields = {"project_id": api.world.home.id, "image": image} | body
    return await api.post("/containers", fields, token=token)


@pytest.mark.parametrize("by", ["alias", "id"])
async def test_create(api: Api, by: str) -> None:
    image = await an_image(api)
    there = api.world.there.id
    reply = await creating(api, getattr(image, by), server_id=there)
    assert reply.status == 201
    data, job = reply.data, await api.world.the_job()
    assert (data["container_image"], data["container_image_id"]) == ("debian/12", image.id)
    assert (data["status"], data["current_job_id"]) == ("creating", job.id)
    assert (job.type, job.server_id) == (JobType.CREATE, there)
    assert job.params == {"image": image.id, "guid": GUID}
    assert job.source_container_id is None


async def test_an_alias_that_looks_like_an_id(api: Api) -> None:
    image = await an_image(api)
    strange = replace(image, id=new_id(), alias=image.id)
    async with api.world.db.write() as tx:
        await images.insert(tx, strange)
    assert (await creating(api, image.id)).data["container_image_id"] == image.id


@pytest.mark.parametrize(
    ("columns", "owned", "answer"),
    [
        ({}, False, (201, "none")),
        ({"public": False}, False, (404, "RESOURCE_NOT_FOUND")),
        ({"public": False}, True, (201, "none")),
        ({"price_cents": 1}, False, (403, "INSUFFICIENT_PERMISSIONS")),
        ({"price_cents": 1}, True, (201, "none")),
        ({"price_cents": 1, "public": False}, False, (404, "RESOURCE_NOT_FOUND")),
        ({"price_cents": 1, "public": False}, True, (201, "none")),
        ({"guid": None}, False, (404, "RESOURCE_NOT_FOUND")),
        ({"guid": None}, True, (404, "RESOURCE_NOT_FOUND")),
    ],
)
async def test_who_may(api: Api, columns: Any, owned: bool, answer: tuple[int, str]) -> None:
    image = await an_image(api, **columns)
    if owned:
        await owns(api, api.world.alice, image)
    else:
        await owns(api, api.world.bob, image)
    reply = await creating(api, image.alias)
    assert reply.refusal == answer
    if reply.status == 403:
        assert reply.body["details"] == {"image": "must be purchased first"}
    if reply.status == 404:
        assert reply.body["message"] == "Image not found"
        assert reply.body["details"] == {"image": "names no image"}
    assert len(await api.world.all_jobs()) == (reply.status == 201)


async def test_it_is_the_projects_owner_who_must_own_it(api: Api) -> None:
    """Also where an admin asks, who owns it."""
    image = await an_image(api, price_cents=500)
    await owns(api, api.world.bob, image)
    reply = await creating(api, image.alias, api.world.admin)
    assert reply.refusal == (403, "INSUFFICIENT_PERMISSIONS")
    mine = await creating(api, image.alias, api.world.admin, project_id=api.world.bobs.id)
    assert mine.status == 201


async def test_it_comes_to_no_other_kind_of_storage(api: Api) -> None:
    image = await an_image(api)
    reply = await creating(api, image.alias, server_id=api.world.pool.id)
    assert reply.refusal == (400, "VALIDATION_ERROR")
    assert "server_id" in reply.body["details"]


async def test_what_is_looked_for_first(api: Api) -> None:
    """The project, the server, the image, the name, the place."""
    image = await an_image(api)
    await api.world.container("taken")
    wrong: dict[str, Any] = {"project_id": new_id(), "server_id": new_id(), "name": "taken"}
    asked = [await creating(api, "none", **wrong)]
    wrong.pop("project_id")
    asked.append(await creating(api, "none", **wrong))
    wrong.pop("server_id")
    asked.append(await creating(api, "none", **wrong))
    asked.append(await creating(api, image.alias, **wrong))
    said = [reply.body["message"] for reply in asked[:3]]
    assert said == ["Project not found", "Server not found", "Image not found"]
    assert asked[3].refusal == (409, "CONTAINER_NAME_IN_USE")
    assert await api.world.all_jobs() == []


async def a_server(api: Api, available_bytes: int) -> Server:
    made = make_server("tight", available_bytes=available_bytes)
    async with api.world.db.write() as tx:
        await servers.put(tx, made)
    return made


@pytest.mark.parametrize(
    ("available_bytes", "has_some", "status"),
    [
        (FREE_BYTES_MIN - 1, True, 507),
        (FREE_BYTES_MIN, True, 201),
        (FREE_BYTES_MIN, False, 507),
        (FREE_BYTES_MIN + 1, False, 201),
    ],
)
async def test_room_for_an_image(
    api: Api, available_bytes: int, has_some: bool, status: int
) -> None:
    image = await an_image(api, size_bytes=FREE_BYTES_MIN + 1)
    tight = await a_server(api, available_bytes)
    if has_some:
        row = DatasetRow(new_id(), tight.id, Role.MIRROR, image.id, "mirrors/m")
        async with api.world.db.write() as tx:
            await datasets.insert(tx, row)
    reply = await creating(api, image.alias, server_id=tight.id)
    assert reply.status == status


@pytest.mark.parametrize("has_image", [True, False])
async def test_room_for_a_copy_where_the_image_is(api: Api, has_image: bool) -> None:
    """What comes is the difference to it."""
    image = await an_image(api)
    source = await api.world.container(
        referenced_bytes=FREE_BYTES_MIN + 1, container_image_id=image.id
    )
    tight = await a_server(api, FREE_BYTES_MIN)
    if has_image:
        row = DatasetRow(new_id(), tight.id, Role.MIRROR, image.id, "mirrors/m")
        async with api.world.db.write() as tx:
            await datasets.insert(tx, row)
    body = {"target_project_id": api.world.home.id, "target_server_id": tight.id}
    reply = await api.post(f"/containers/{source.id}/copy", body)
    assert reply.status == (201 if has_image else 507)


async def test_room_where_it_lives(api: Api) -> None:
    tight = await a_server(api, FREE_BYTES_MIN)
    image = await an_image(api, size_bytes=1 << 50, server_id=tight.id)
    assert (await creating(api, image.alias, server_id=tight.id)).status == 201
