"""The two lists and the details of the images' page, row by row."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from daemon.model_images import Image, Rating
from daemon.store import image_owners, images
from tests.contract.api.api_world import Api, World
from tests.contract.images.shelf import give, put, stored

AT = datetime(2025, 1, 10, 8, 0, tzinfo=UTC)
PUBLIC = "/images/public"
USER = "/images/user"


async def aliases(api: Api, path: str = PUBLIC, **query: Any) -> list[str]:
    reply = await api.get(path, params=query)
    return [one["alias"] for one in reply.data["images"]]


async def test_the_public_list_is_the_pages(api: Api) -> None:
    rated = {"rating_sum": 142 * 4500, "rating_count": 142}
    made = await put(api.world, alias="ubuntu/22.04", prespawn=True, created_at=AT, **rated)
    reply = await api.get(PUBLIC)
    assert (reply.status, reply.body["message"]) == (200, "Public images retrieved successfully")
    assert reply.data == {
        "images": [
            {
                "id": made.id,
                "alias": "ubuntu/22.04",
                "description": "Ubuntu 22.04 LTS (Jammy Jellyfish)",
                "image_name": "ubuntu-22.04-amd64",
                "architecture": "amd64",
                "os": "ubuntu",
                "release": "22.04",
                "variant": "default",
                "size": 512000000,
                "price": 0,
                "added_date": "2025-01-10T08:00:00.000Z",
                "average_rating": 4.5,
                "rating_count": 142,
                "icon_url": f"/api/v1/images/{made.id}/icon",
                "prespawn": True,
            }
        ],
        "pagination": {"total": 1, "page": 1, "limit": 20, "totalPages": 1},
    }


async def test_the_details_are_the_pages(api: Api) -> None:
    made = await put(api.world, alias="ubuntu/22.04", price_cents=599, created_at=AT)
    reply = await api.get(f"{PUBLIC}/{made.id}")
    assert reply.body["message"] == "Public image details retrieved successfully"
    (listed,) = (await api.get(PUBLIC)).data["images"]
    assert reply.data == {**listed, "serial": "20250110"}
    assert (reply.data["price"], reply.data["average_rating"]) == (5.99, 0)


async def test_the_users_list_is_the_pages(api: Api) -> None:
    made = await put(api.world, alias="ubuntu/22.04", created_at=AT)
    await give(api.world, api.world.alice, made)
    for rating, is_rated in ((None, False), (5, True), (0, True)):
        if rating is not None:
            await api.post(f"/images/rate/{made.id}", {"rating": rating})
        reply = await api.get(USER)
        assert reply.body["message"] == "User images retrieved successfully"
        (listed,) = (await api.get(PUBLIC)).data["images"]
        del listed["added_date"]
        mine = {"user_rating": rating, "has_rated": is_rated}
        assert reply.data == {
            "images": [listed | mine],
            "pagination": {"total": 1, "page": 1, "limit": 20, "totalPages": 1},
        }


async def test_what_is_not_public_is_seen_by_its_owners_alone(api: Api) -> None:
    world = api.world
    hidden = await put(world, alias="hidden", public=False)
    await give(world, world.alice, hidden)
    bob = world.token(world.bob)
    assert await aliases(api) == []
    assert await aliases(api, USER) == ["hidden"]
    assert (await api.get(f"{PUBLIC}/{hidden.id}")).data["alias"] == "hidden"
    assert (await api.get(USER, token=bob)).data["images"] == []
    strange = await api.get(f"{PUBLIC}/{hidden.id}", token=bob)
    assert strange.refusal == (404, "RESOURCE_NOT_FOUND")
    assert strange.body["message"] == "Public image not found"
    assert (await api.get(f"{PUBLIC}/{hidden.id}", token=world.admin)).status == 200
    assert (await api.get(USER, token=world.admin)).data["images"] == []


async def test_what_is_not_frozen_is_seen_by_nobody(api: Api) -> None:
    made = await put(api.world, guid=None, icon=b"an icon")
    assert await aliases(api) == []
    for method, path in (
        ("GET", f"{PUBLIC}/{made.id}"),
        ("GET", f"/images/{made.id}/icon"),
        ("POST", f"/images/import/{made.id}"),
        ("POST", f"/images/purchase/{made.id}"),
        ("POST", f"/images/rate/{made.id}"),
    ):
        body = {"rating": 5} if "rate" in path else None
        for token in (api.world.token(), api.world.admin):
            reply = await api.ask(method, path, body, token=token)
            assert reply.refusal == (404, "RESOURCE_NOT_FOUND"), path
    async with api.world.db.write() as tx:
        await images.change(tx, made.id, guid="1")
    assert (await api.get(f"{PUBLIC}/{made.id}")).status == 200


async def test_filters(api: Api) -> None:
    world = api.world
    await put(world, alias="a", os="debian", architecture="arm64", price_cents=599)
    await put(world, alias="b", os="debian", rating_sum=9000, rating_count=2)
    await put(world, alias="c", os="Debian", price_cents=600, rating_sum=14000, rating_count=3)
    for query, wanted in (
        ({"os": "debian"}, "ab"),
        ({"architecture": "amd64"}, "bc"),
        ({"os": "debian", "architecture": "amd64"}, "b"),
        ({"min_price": "5.99"}, "ac"),
        ({"min_price": "5.991"}, "c"),
        ({"max_price": "5.99"}, "ab"),
        ({"max_price": "0"}, "b"),
        ({"min_price": "5.995", "max_price": "6"}, "c"),
        ({"min_price": "1e1"}, ""),
        ({"min_rating": "4.5"}, "bc"),
        ({"min_rating": repr(14 / 3)}, "c"),
        ({"max_rating": repr(14 / 3)}, "abc"),
        ({"max_rating": "4.666666666666666"}, "ab"),
        ({"max_rating": "0"}, "a"),
        ({"min_rating": "0", "max_rating": "5"}, "abc"),
        ({"os": "debian", "min_rating": "4.5", "max_price": "1", "search": "JAMMY"}, "b"),
        ({"os": "nothing"}, ""),
    ):
        found = await aliases(api, **query, sort_by="alias", sort_order="asc")
        assert "".join(found) == wanted, query


async def test_search_is_for_letters_whatever_their_case(api: Api) -> None:
    world = api.world
    await put(world, alias="one", image_name="one-amd64", description="50% off_er \u00c9mile")
    await put(world, alias="two", description="", tags=("\u00dcber", 'say "hi"', "\u03a3\u03c3"))
    for text, wanted in (
        ("ONE-AMD", ["one"]),
        ("two", ["two"]),
        ("%", ["one"]),
        ("_", ["one"]),
        ("0% OFF_", ["one"]),
        ("\u00e9MILE", ["one"]),
        ("\u00fcBER", ["two"]),
        ("\u03c3\u03a3", ["two"]),
        ('"HI"', ["two"]),
        ("[", []),
        ("\\", []),
        ("\\u00dc", []),
        (", ", []),
        ("", ["one", "two"]),
    ):
        assert await aliases(api, search=text, sort_by="alias", sort_order="asc") == wanted, text


async def test_a_search_is_cut_into_pages_too(api: Api) -> None:
    for number in range(5):
        await put(api.world, alias=f"match-{number}")
        await put(api.world, alias=f"other-{number}")
    asked = {"search": "MATCH", "sort_by": "alias", "limit": 2}
    pages = [await aliases(api, **asked, page=page) for page in (1, 2, 3, 4)]
    assert pages == [["match-4", "match-3"], ["match-2", "match-1"], ["match-0"], []]
    data = (await api.get(PUBLIC, params={**asked, "page": 2})).data
    assert data["pagination"] == {"total": 5, "page": 2, "limit": 2, "totalPages": 3}


SORTED = {
    "alias": ["B", "a.b", "a/b", "aa", "b"],  # by bytes: a language would put a before B
    "added_date": ["aa", "b", "a/b", "B", "a.b"],
    "price": ["b", "B", "a.b", "aa", "a/b"],
    "rating": ["a/b", "aa", "b", "a.b", "B"],
}


@pytest.mark.parametrize("sort_by", SORTED)
async def test_sorting(sort_by: str, api: Api) -> None:
    for place, alias in enumerate(sorted(SORTED["alias"], reverse=True)):
        await put(
            api.world,
            alias=alias,
            created_at=AT + timedelta(milliseconds=SORTED["added_date"].index(alias)),
            price_cents=9 + SORTED["price"].index(alias),  # as text, 10 would be before 9
            rating_sum=1000 * SORTED["rating"].index(alias),
            rating_count=1,
            id=f"{place:024x}",
        )
    assert await aliases(api, sort_by=sort_by, sort_order="asc") == SORTED[sort_by]
    for order in ({"sort_order": "desc"}, {}):
        assert await aliases(api, sort_by=sort_by, **order) == SORTED[sort_by][::-1]
    assert await aliases(api) == SORTED["added_date"][::-1]


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("sort_by", SORTED)
async def test_ties_are_by_id(sort_by: str, order: str, api: Api) -> None:
    made = [await put(api.world, alias=f"i-{one}", id=one * 24, created_at=AT) for one in "c9a"]
    by_id = [one.alias for one in sorted(made, key=lambda one: one.id)]
    if sort_by != "alias":
        assert await aliases(api, sort_by=sort_by, sort_order=order) == by_id


async def test_the_users_list_is_by_when_they_got_them(api: Api) -> None:
    world = api.world
    for days, alias in ((2, "b"), (3, "c"), (1, "a"), (1, "A")):
        made = await put(world, alias=alias, id=f"{ord(alias):024x}")
        await give(world, world.alice, made, created_at=AT + timedelta(days=days))
    assert await aliases(api, USER) == ["c", "b", "A", "a"]
    assert await aliases(api, USER, sort_by="created_at", sort_order="asc") == ["A", "a", "b", "c"]
    assert await aliases(api, USER, limit=3, page=2) == ["a"]


BAD = {
    PUBLIC: [
        *("os=", "architecture=", "os=a%00b", "os=a%0Ab", f"os={'a' * 101}"),
        *("min_price=-1", "max_price=x", "min_price=", "min_price=1e999", "max_price=NaN"),
        *("min_price=Infinity", "min_price=1_0", "min_price=%D9%A1", "min_price=%201"),
        *("min_rating=-0.1", "max_rating=5.1", "min_rating=five"),
        *("min_price=2&max_price=1", "min_rating=4&max_rating=3.9"),
        *("search=%00", f"search={'a' * 101}", "search=%ED%A0%80%0A"),
        *("sort_by=name", "sort_by=created_at", "sort_order=up", "sort_order=ASC", "bogus=1"),
        *("page=0", "limit=101", "limit=0", "page=1.5", "os=a&os=b"),
    ],
    USER: [
        "sort_by=alias",
        "sort_by=added_date",
        "sort_order=",
        "os=debian",
        "page=0",
        "limit=101",
    ],
}


@pytest.mark.parametrize("path", BAD)
async def test_bad_filters(path: str, api: Api) -> None:
    for query in BAD[path]:
        reply = await api.get(f"{path}?{query}")
        assert reply.refusal == (400, "VALIDATION_ERROR"), query
        name = query.split("&")[-1].split("=")[0]
        assert list(reply.body["details"]) == [name], query
    for query in ("min_price=1&max_price=1.0", "min_rating=5&max_rating=5", "min_price=0", ""):
        assert (await api.get(f"{PUBLIC}?{query}")).status == 200, query


async def test_a_removed_image_leaves_every_list(api: Api) -> None:
    """With its icon, its ratings and its owners."""
    world = api.world
    made = await put(world, icon=b"an icon")
    await give(world, world.alice, made)
    await api.post(f"/images/rate/{made.id}", {"rating": 5})
    async with world.db.write() as tx:
        await images.delete(tx, made.id)
    assert await aliases(api) == await aliases(api, USER) == []
    assert (await api.get(f"{PUBLIC}/{made.id}")).status == 404


async def test_an_average_is_exact(world: World) -> None:
    """Whoever rates how often, in what order: of each the last rating counts, to the last digit."""
    made: Image = await put(world)
    users = [world.alice.id, world.bob.id]
    for step in range(60):
        async with world.db.write() as tx:
            now = await images.get(tx, made.id)
            assert now is not None
            given = Rating(users[step % 2], made.id, step * 37 % 5001)
            await image_owners.rate(tx, now, given)
    last = [step * 37 % 5001 for step in (58, 59)]
    rated = await stored(world, made)
    assert (rated.rating_sum, rated.rating_count) == (sum(last), 2)
