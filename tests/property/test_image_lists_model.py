"""The lists of images against a plain model: whatever is filtered and sorted how, all pages
together are what the model says, in its order, with nothing lost or doubled. Ties abound."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from fractions import Fraction
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete

from daemon.api.app import make_app
from daemon.config import LimitsSection
from daemon.model import now
from daemon.model_images import Image, OwnedImage, Rating
from daemon.store import image_owners, images
from daemon.store.database import Database
from daemon.store.migrate import migrate
from daemon.store.schema import images as table
from tests.contract.api.api_world import Api, World
from tests.contract.images.shelf import UBUNTU
from tests.postgres import serving

AT = now()
FEW = settings(max_examples=100, deadline=None, derandomize=True, database=None)

words = st.sampled_from(["a", "A", "b", "%", "_", "\u00e9", "\u00c9", "x/y", "x-y", "\\", '"'])
thousandths = st.sampled_from([0, 1, 1000, 3333, 4500, 5000])
rarely_not = st.integers(0, 9).map(bool)
averages = st.tuples(st.integers(0, 3), st.lists(thousandths, min_size=3, max_size=3))

FILTERS_OF_WORDS = {
    "os": st.sampled_from(["debian", "Debian"]),
    "architecture": st.just("amd64"),
    "search": words,
}
FILTERS = ["price", "rating", *FILTERS_OF_WORDS]


@dataclass(frozen=True)
class Asked:
    """One list, and in pages of how many."""

    filters: dict[str, str]
    sort_by: str
    sort_order: str
    limit: int


@st.composite
def shelves(draw: st.DrawFn) -> list[Image]:
    """Up to a dozen images that differ in little."""
    made = []
    for number in range(draw(st.sampled_from([12, 8, 4, 1, 0]))):
        count, given_ratings = draw(averages)
        made.append(
            replace(
                UBUNTU,
                id=f"{draw(st.integers(0, 15)):x}{number:023x}",
                alias=f"{draw(words)}{number}",
                image_name=draw(words),
                description=draw(words),
                tags=tuple(draw(st.lists(words, max_size=2))),
                os=draw(st.sampled_from(["debian", "alpine"])),
                architecture=draw(st.sampled_from(["amd64", "arm64"])),
                price_cents=draw(st.sampled_from([0, 1, 100, 110, 599])),
                public=draw(rarely_not),
                guid="1" if draw(rarely_not) else None,
                rating_sum=sum(given_ratings[:count]),
                rating_count=count,
                created_at=AT + timedelta(seconds=draw(st.integers(0, 2))),
            )
        )
    return made


@st.composite
def questions(draw: st.DrawFn, shelf: list[Image]) -> Asked:
    """A question; its bounds are often what an image has, to the last digit."""
    shown = {
        "price": [float(price(one)) for one in shelf] + [0.0, 1.1, 5.985],
        "rating": [float(average(one)) for one in shelf] + [0.0, 4.4999, 5.0],
    }
    filters: dict[str, str] = {}
    # Two at most: where all are given, little is left to be in any order.
    for name in draw(st.lists(st.sampled_from(FILTERS), max_size=2, unique=True)):
        if name in shown:
            pair = st.tuples(st.sampled_from(shown[name]), st.sampled_from(shown[name]))
            least, most = sorted(draw(pair))
            bounds = {f"min_{name}": repr(least), f"max_{name}": repr(most)}
            given = draw(st.sampled_from([[*bounds], [*bounds][:1], [*bounds][1:]]))
            filters |= {bound: bounds[bound] for bound in given}
        else:
            filters[name] = draw(FILTERS_OF_WORDS[name])
    sort_by = draw(st.sampled_from(["alias", "added_date", "price", "rating"]))
    return Asked(filters, sort_by, draw(st.sampled_from(["asc", "desc"])), draw(st.integers(1, 4)))


def price(image: Image) -> Fraction:
    return Fraction(image.price_cents, 100)


def average(image: Image) -> Fraction:
    return Fraction(image.rating_sum, 1000 * max(image.rating_count, 1))


def is_wanted(image: Image, filters: dict[str, str]) -> bool:
    """What the page says of filters: all of them hold."""
    bounds = {"price": float(price(image)), "rating": float(average(image))}
    texts = [image.alias, image.image_name, image.description, *image.tags]
    search = filters.get("search", "").casefold()
    return (
        image.public
        and image.guid is not None
        and image.os == filters.get("os", image.os)
        and image.architecture == filters.get("architecture", image.architecture)
        and all(value >= float(filters.get(f"min_{name}", 0)) for name, value in bounds.items())
        and all(value <= float(filters.get(f"max_{name}", 1e9)) for name, value in bounds.items())
        and any(search in text.casefold() for text in texts)
    )


def expected(shelf: list[Image], asked: Asked) -> list[str]:
    """The ids in the order of the page: by the field, ties by id."""
    keys: dict[str, Any] = {
        "alias": lambda one: one.alias.encode(),
        "added_date": lambda one: one.created_at,
        "price": price,
        "rating": average,
    }
    by_id = sorted((one for one in shelf if is_wanted(one, asked.filters)), key=lambda one: one.id)
    descending = asked.sort_order == "desc"
    return [one.id for one in sorted(by_id, key=keys[asked.sort_by], reverse=descending)]


async def all_pages(api: Api, path: str, query: dict[str, str], limit: int) -> list[dict[str, Any]]:
    """Every page up to the first that is empty; each says how many there are."""
    found: list[dict[str, Any]] = []
    totals = set()
    while True:
        page = {"page": str(1 + len(found) // limit), "limit": str(limit)}
        data = (await api.get(path, params={**query, **page})).data
        totals.add((data["pagination"]["total"], data["pagination"]["totalPages"]))
        if not data["images"]:
            break
        assert len(data["images"]) <= limit
        found += data["images"]
        if len(data["images"]) < limit:
            break
    assert totals == {(len(found), -(-len(found) // limit))}
    return found


class Shop:
    """An API whose shelf is filled anew for each example."""

    def __init__(self, url: str) -> None:
        self.runner = asyncio.Runner()
        self.world = World(Database(url), limits=LimitsSection(requests_per_minute=10**6))
        self.runner.run(self._open())

    async def _open(self) -> None:
        await migrate(self.world.db)
        await self.world.fill()
        self.client = TestClient(TestServer(make_app(self.world.deps)))
        await self.client.start_server()
        self.api = Api(self.world, self.client)

    async def _close(self) -> None:
        await self.client.close()
        await self.world.db.close()

    def close(self) -> None:
        self.runner.run(self._close())
        self.runner.close()

    async def fill(self, shelf: list[Image]) -> None:
        async with self.world.db.write() as tx:
            await tx.execute(delete(table))
            for image in shelf:
                await images.insert(tx, replace(image, server_id=self.world.here.id))


@contextmanager
def opened(url: str) -> Iterator[Shop]:
    shop = Shop(url)
    try:
        yield shop
    finally:
        shop.close()


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
)
def shop(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    """The shop, on either database."""
    if request.param == "sqlite":
        directory = tmp_path_factory.mktemp("images")
        with opened(f"sqlite:///{directory}/catalogue.db") as made:
            yield made
    else:
        with serving() as server:
            # One that sorts as a language does, as a cluster's may; the tests' own is by bytes.
            language = "LOCALE_PROVIDER icu ICU_LOCALE 'en-US' ENCODING 'UTF8'"
            server.ask("postgres", f"CREATE DATABASE images TEMPLATE template0 {language}")
            with opened(server.url("images")) as made:
                yield made


def test_pages_of_the_public_list(shop: Shop) -> None:
    @FEW
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        shelf = data.draw(shelves())
        shop.runner.run(shop.fill(shelf))
        for _ in range(3):
            asked = data.draw(questions(shelf))
            query = {**asked.filters, "sort_by": asked.sort_by, "sort_order": asked.sort_order}
            listed = shop.runner.run(all_pages(shop.api, "/images/public", query, asked.limit))
            assert [one["id"] for one in listed] == expected(shelf, asked), asked
            known = {one.id: one for one in shelf}
            for one in listed:
                assert one["average_rating"] == float(average(known[one["id"]]))
                assert one["price"] == float(price(known[one["id"]]))

    check()


def test_pages_of_the_users_list(shop: Shop) -> None:
    """Rated by the user, by another, or by both; got at few times."""
    alice, bob = shop.world.alice, shop.world.bob

    async def got(shelf: list[Image], owned: list[tuple[int, int | None, bool]]) -> None:
        await shop.fill(shelf)
        async with shop.world.db.write() as tx:
            for image, (second, rating, is_bobs) in zip(shelf, owned, strict=True):
                at = AT + timedelta(seconds=second)
                await image_owners.own(tx, OwnedImage(alice.id, image.id, 0, at))
                if is_bobs:
                    await image_owners.own(tx, OwnedImage(bob.id, image.id))
                    await image_owners.rate(tx, image, Rating(bob.id, image.id, 1))
                if rating is not None:
                    await image_owners.rate(tx, image, Rating(alice.id, image.id, rating))

    @FEW
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        shelf = [replace(one, guid="1") for one in data.draw(shelves())]
        part = st.tuples(st.integers(0, 2), st.none() | thousandths, st.booleans())
        owned = data.draw(st.lists(part, min_size=len(shelf), max_size=len(shelf)))
        shop.runner.run(got(shelf, owned))
        order, limit = data.draw(st.sampled_from(["asc", "desc"])), data.draw(st.integers(1, 4))
        listed = shop.runner.run(all_pages(shop.api, "/images/user", {"sort_order": order}, limit))
        by_id = sorted(zip(shelf, owned, strict=True), key=lambda pair: pair[0].id)
        wanted = sorted(by_id, key=lambda pair: pair[1][0], reverse=order == "desc")
        assert [(one["id"], one["user_rating"]) for one in listed] == [
            (image.id, None if rating is None else rating / 1000)
            for image, (_, rating, _) in wanted
        ]

    check()
