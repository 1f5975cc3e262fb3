"""An image's icon: bytes, not JSON, and what a cache is told of them."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from aiohttp import ClientResponse

from tests.contract.api.api_world import V1, Api
from tests.contract.api.described import DOCUMENT
from tests.contract.images.shelf import PNG, give, put

ETAG = f'"{hashlib.sha256(PNG).hexdigest()}"'


async def ask(api: Api, image_id: str, **headers: str) -> ClientResponse:
    given = {"Authorization": f"Bearer {api.world.token()}"} | headers
    return await api.client.get(f"{V1}/images/{image_id}/icon", headers=given)


async def test_the_bytes_come_as_they_are(api: Api) -> None:
    made = await put(api.world, icon=PNG)
    answer = await ask(api, made.id)
    assert (answer.status, await answer.read()) == (200, PNG)
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["Content-Length"] == str(len(PNG))
    assert answer.headers["ETag"] == ETAG
    assert "private" in answer.headers["Cache-Control"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_other_bytes_have_another_etag(api: Api) -> None:
    first, second = await put(api.world, icon=PNG), await put(api.world, icon=PNG + b"x")
    etags = [(await ask(api, made.id)).headers["ETag"] for made in (first, second)]
    assert len(set(etags)) == 2


KNOWN = (ETAG, f"W/{ETAG}", f'"other", {ETAG}', f'W/"other",W/{ETAG},"more"', "*")
UNKNOWN = ('"other"', ETAG.strip('"'), 'W/"*"x', "", f'"{ETAG[1:10]}"', "garbage")


@pytest.mark.parametrize("given", KNOWN)
async def test_what_the_client_has_is_not_sent_again(given: str, api: Api) -> None:
    made = await put(api.world, icon=PNG)
    answer = await ask(api, made.id, **{"If-None-Match": given})
    assert (answer.status, await answer.read()) == (304, b"")
    assert answer.headers["ETag"] == ETAG
    assert "private" in answer.headers["Cache-Control"]


@pytest.mark.parametrize("given", UNKNOWN)
async def test_what_the_client_has_not_is_sent(given: str, api: Api) -> None:
    made = await put(api.world, icon=PNG)
    answer = await ask(api, made.id, **{"If-None-Match": given})
    assert (answer.status, await answer.read()) == (200, PNG)


async def test_an_icon_is_for_who_sees_the_image(api: Api) -> None:
    world = api.world
    hidden = await put(world, icon=PNG, public=False)
    plain = await put(world)
    for image_id in (hidden.id, plain.id, "0" * 24):
        reply = await api.get(f"/images/{image_id}/icon")
        assert reply.refusal == (404, "RESOURCE_NOT_FOUND")
        assert reply.body["message"] == "Image icon not found"
    await give(world, world.alice, hidden)
    assert (await ask(api, hidden.id)).status == 200
    assert (await api.get(f"/images/{hidden.id}/icon", token=None)).status == 401


def test_it_is_documented_as_what_it_is() -> None:
    described: dict[str, Any] = DOCUMENT["paths"]["/images/{id}/icon"]["get"]
    assert list(described["responses"]["200"]["content"]) == ["image/png"]
    assert "content" not in described["responses"]["304"]
    assert all("ETag" in described["responses"][status]["headers"] for status in ("200", "304"))
    headers = {one["name"] for one in described["parameters"] if one["in"] == "header"}
    assert headers == {"If-None-Match"}
