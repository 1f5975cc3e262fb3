"""Import, purchase and rate, row by row of the images' page."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.store import images
from tests.contract.api.api_world import Api, Reply
from tests.contract.images.shelf import balance, credit, give, put, stored

NOT_FREE = "Image is not free or already imported"
NOT_SOLD = "Insufficient balance or image already owned"


async def mine(api: Api) -> list[str]:
    return [one["id"] for one in (await api.get("/images/user")).data["images"]]


def refused(reply: Reply, code: str, message: str, *facts: str) -> None:
    """Whether it is the 400 of the page; `facts` are named in the details."""
    assert (reply.status, reply.body["error"]) == (400, "Bad Request")
    assert (reply.body["code"], reply.body["message"]) == (code, message)
    for fact in facts:
        assert fact in str(reply.body["details"])


async def test_a_free_image_is_imported_once(api: Api) -> None:
    made = await put(api.world)
    first = await api.post(f"/images/import/{made.id}")
    assert (first.status, first.data) == (200, {})
    assert first.body["message"] == "Free image imported successfully"
    assert await mine(api) == [made.id]
    again = await api.post(f"/images/import/{made.id}")
    refused(again, "IMAGE_ALREADY_OWNED", NOT_FREE, "already")
    assert await mine(api) == [made.id]


async def test_a_paid_image_is_not_imported(api: Api) -> None:
    made = await put(api.world, price_cents=1)
    refused(await api.post(f"/images/import/{made.id}"), "IMAGE_NOT_FREE", NOT_FREE, "0.01")
    assert await mine(api) == []


async def test_a_purchase_is_paid_from_the_balance_once(api: Api) -> None:
    world = api.world
    await credit(world, world.alice, 5000)
    made = await put(world, price_cents=599)
    bought = await api.post(f"/images/purchase/{made.id}")
    assert (bought.status, bought.body["message"]) == (200, "Image purchased successfully")
    assert bought.data == {"price_paid": 5.99, "remaining_balance": 44.01}
    again = await api.post(f"/images/purchase/{made.id}")
    refused(again, "IMAGE_ALREADY_OWNED", NOT_SOLD, "already")
    assert (await mine(api), await balance(world, world.alice)) == ([made.id], 4401)
    refused(await api.post(f"/images/import/{made.id}"), "IMAGE_ALREADY_OWNED", NOT_FREE)


@pytest.mark.parametrize(("cents", "is_enough"), [(0, False), (598, False), (599, True)])
async def test_a_balance_never_falls_below_zero(cents: int, is_enough: bool, api: Api) -> None:
    world = api.world
    await credit(world, world.alice, cents)
    made = await put(world, price_cents=599)
    bought = await api.post(f"/images/purchase/{made.id}")
    if is_enough:
        assert bought.data == {"price_paid": 5.99, "remaining_balance": 0}
    else:
        refused(bought, "INSUFFICIENT_BALANCE", NOT_SOLD, "balance", "5.99")
        assert await mine(api) == []
    assert await balance(world, world.alice) == (0 if is_enough else cents)


async def test_a_free_image_is_not_bought(api: Api) -> None:
    made = await put(api.world)
    refused(await api.post(f"/images/purchase/{made.id}"), "IMAGE_IS_FREE", NOT_SOLD, "import")
    assert await mine(api) == []


async def test_who_pays_is_who_asks(api: Api) -> None:
    world = api.world
    made = await put(world, price_cents=599)
    for user in (world.alice, world.bob):
        await credit(world, user, 600)
    await api.post(f"/images/purchase/{made.id}", token=world.token(world.bob))
    assert await balance(world, world.bob) == 1
    assert await balance(world, world.alice) == 600
    assert await mine(api) == []


@pytest.mark.parametrize("verb", ["import", "purchase"])
async def test_only_public_images_can_be_had(verb: str, api: Api) -> None:
    world = api.world
    await credit(world, world.bob, 600)
    hidden = await put(world, public=False, price_cents=0 if verb == "import" else 500)
    reply = await api.post(f"/images/{verb}/{hidden.id}", token=world.admin)
    assert reply.refusal == (404, "RESOURCE_NOT_FOUND")
    assert reply.body["message"] == "Image not found"
    await give(world, world.bob, hidden)
    reply = await api.post(f"/images/{verb}/{hidden.id}", token=world.admin)
    assert reply.refusal == (400, "IMAGE_ALREADY_OWNED")
    assert await balance(world, world.bob) == 600


async def test_an_unpublished_image_stays_with_who_bought_it(api: Api) -> None:
    made = await put(api.world)
    await api.post(f"/images/import/{made.id}")
    async with api.world.db.write() as tx:
        await images.change(tx, made.id, public=False)
    assert await mine(api) == [made.id]
    assert (await api.post(f"/images/rate/{made.id}", {"rating": 1})).status == 200


async def rate(api: Api, image_id: str, rating: Any, **given: Any) -> Reply:
    return await api.post(f"/images/rate/{image_id}", {"rating": rating}, **given)


async def test_each_rating_takes_the_place_of_the_last(api: Api) -> None:
    world = api.world
    made = await put(world, rating_sum=142 * 4500, rating_count=142)
    reply = await rate(api, made.id, 5)
    assert (reply.status, reply.body["message"]) == (200, "Image rated successfully")
    exact = (142 * 4500 + 5000) / 143_000
    assert reply.data == {"new_rating": 5, "average_rating": exact, "rating_count": 143}
    for rating in (0, 3.125, 4.5):
        again = await rate(api, made.id, rating)
        exact = (142 * 4500 + rating * 1000) / 143_000
        assert again.data == {
            "new_rating": rating,
            "average_rating": exact,
            "rating_count": 143,
        }
    other = await rate(api, made.id, 1, token=world.token(world.bob))
    assert other.data["rating_count"] == 144
    now = await stored(world, made)
    assert (now.rating_sum, now.rating_count) == (142 * 4500 + 4500 + 1000, 144)
    shown = (await api.get(f"/images/public/{made.id}")).data
    assert shown["average_rating"] == other.data["average_rating"]


async def test_thirds_are_shown_to_the_last_digit(api: Api) -> None:
    made = await put(api.world, rating_sum=9000, rating_count=2)
    assert (await rate(api, made.id, 5)).data["average_rating"] == 14 / 3


@pytest.mark.parametrize(
    "rating", [-1, -0.001, 5.001, 6, 4.5555, 0.30000000000000004, 10**400, 1e-320, "5", True, []]
)
async def test_what_is_no_rating(rating: Any, api: Api) -> None:
    made = await put(api.world)
    reply = await rate(api, made.id, rating)
    refused(reply, "VALIDATION_ERROR", "Invalid rating value (must be 0-5)", "rating", "3 decimals")
    assert (await stored(api.world, made)).rating_count == 0


@pytest.mark.parametrize("body", [{}, {"rating": None}, {"rating": 5, "stars": 5}])
async def test_a_rating_is_a_rating_and_no_more(body: dict[str, Any], api: Api) -> None:
    made = await put(api.world)
    reply = await api.post(f"/images/rate/{made.id}", body)
    assert reply.refusal == (400, "VALIDATION_ERROR")
    assert (await stored(api.world, made)).rating_count == 0


async def test_who_sees_it_may_rate_it(api: Api) -> None:
    world = api.world
    hidden = await put(world, public=False)
    await give(world, world.alice, hidden)
    assert (await rate(api, hidden.id, 4)).status == 200
    reply = await rate(api, hidden.id, 4, token=world.token(world.bob))
    assert reply.refusal == (404, "RESOURCE_NOT_FOUND")
    assert reply.body["message"] == "Image not found"
