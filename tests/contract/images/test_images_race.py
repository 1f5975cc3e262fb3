"""Fifty purchases at once, through two servers of one catalogue, with a balance for one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from aiohttp.test_utils import TestClient, TestServer

from daemon.api.app import make_app
from daemon.store.database import Database
from tests.contract.api.api_world import Api
from tests.contract.images.shelf import balance, credit, put, stored

PURCHASES = 50
PRICE = 599
PATIENCE_SECONDS = 300


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty writers wait for their turn, however slow the machine is; then 503 is no answer."""
    monkeypatch.setattr("daemon.store.database.WAIT_SECONDS", PATIENCE_SECONDS)


@pytest.fixture
async def servers(api: Api, url: str) -> AsyncIterator[list[Api]]:
    """`here`, and `there` with connections of its own."""
    world = api.world
    db = Database(url)
    deps = replace(world.deps, db=db, server_id=world.there.id)
    async with TestClient(TestServer(make_app(deps))) as client:
        yield [api, Api(world, client)]
    await db.close()


async def asked_at_once(servers: list[Api], path: str, ids: list[str]) -> Counter[str]:
    """How often each answer came."""
    asked = [servers[place % 2].post(f"{path}/{one}") for place, one in enumerate(ids)]
    replies = await asyncio.gather(*asked)
    return Counter(reply.body.get("code", str(reply.status)) for reply in replies)


async def mine(api: Api) -> list[str]:
    listed = (await api.get("/images/user", params={"limit": 100})).data["images"]
    return [one["id"] for one in listed]


async def test_fifty_purchases_of_one_image(servers: list[Api]) -> None:
    world = servers[0].world
    await credit(world, world.alice, PRICE + 1)
    made = await put(world, price_cents=PRICE)
    answers = await asked_at_once(servers, "/images/purchase", [made.id] * PURCHASES)
    assert answers == {"200": 1, "IMAGE_ALREADY_OWNED": PURCHASES - 1}
    assert (await mine(servers[1]), await balance(world, world.alice)) == ([made.id], 1)


async def test_fifty_purchases_of_fifty_images(servers: list[Api]) -> None:
    """With twice the price at first, two of them; and no money is lost, nor made."""
    world = servers[0].world
    ids = [(await put(world, price_cents=PRICE)).id for _ in range(PURCHASES)]
    bought: list[str] = []
    for cents, wanted in ((PRICE * 2 + 598, 2), (1, 1)):
        await credit(world, world.alice, cents)
        left = [one for one in ids if one not in bought]
        answers = await asked_at_once(servers, "/images/purchase", left)
        assert answers == {"200": wanted, "INSUFFICIENT_BALANCE": len(left) - wanted}
        bought = await mine(servers[0])
    assert (len(bought), await balance(world, world.alice)) == (3, 0)


async def test_fifty_imports_of_one_image(servers: list[Api]) -> None:
    made = await put(servers[0].world)
    answers = await asked_at_once(servers, "/images/import", [made.id] * PURCHASES)
    assert answers == {"200": 1, "IMAGE_ALREADY_OWNED": PURCHASES - 1}


async def test_fifty_ratings_at_once_are_two_users(servers: list[Api]) -> None:
    world = servers[0].world
    made = await put(world)
    tokens = [world.token(world.alice), world.token(world.bob)]
    rated = [
        servers[place % 2].post(
            f"/images/rate/{made.id}", {"rating": place % 6}, token=tokens[place // 2 % 2]
        )
        for place in range(PURCHASES)
    ]
    replies = await asyncio.gather(*rated)
    assert {reply.status for reply in replies} == {200}
    now = await stored(world, made)
    shown = [
        (await servers[0].get("/images/public")).data["images"][0]["average_rating"],
        now.rating_sum / (1000 * now.rating_count),
    ]
    async with world.db.read() as tx:
        said = await tx.exec_driver_sql("SELECT sum(rating), count(*) FROM ratings")
        assert tuple(said.one()) == (now.rating_sum, now.rating_count)
    assert (now.rating_count, shown[0]) == (2, shown[1])
