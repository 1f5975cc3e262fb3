"""Lists of images, on SQLite and PostgreSQL alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Double, and_, case, cast, func, select
from sqlalchemy.sql.elements import ColumnElement

from daemon.model_images import STAR, Image
from daemon.store import rows
from daemon.store.database import Tx
from daemon.store.schema import images, owned_images, ratings

ImageSort = Literal["alias", "added_date", "price", "rating"]
SortOrder = Literal["asc", "desc"]

# The very doubles that are shown, for both databases divide as Python does.
_PRICE = cast(images.c.price_cents, Double) / 100.0
_AVERAGE = case(
    (images.c.rating_count == 0, 0.0),
    else_=cast(images.c.rating_sum, Double) / cast(STAR * images.c.rating_count, Double),
)


@dataclass(frozen=True, slots=True)
class ImageFilter:
    """Which public images a list shows: those that match every field that is not None. Prices
    are in the unit, ratings in stars, and the bounds are let in themselves."""

    os: str | None = None
    architecture: str | None = None
    min_price: float | None = None
    max_price: float | None = None
    min_rating: float | None = None
    max_rating: float | None = None
    search: str | None = None


@dataclass(frozen=True, slots=True)
class ImageOrder:
    """By what a list of images is sorted, and which way; ties are by id."""

    by: ImageSort = "added_date"
    direction: SortOrder = "desc"


async def public_page(
    tx: Tx, wanted: ImageFilter, order: ImageOrder, cut: slice
) -> tuple[list[Image], int]:
    """A cut of the public images that are wanted, and how many there are."""
    chosen = select(images).where(*_conditions(wanted)).order_by(*_order(tx, order))
    if wanted.search is not None:
        # The databases fold case in ways of their own, and tags are JSON there. There are hundreds
        # of images, not millions, so Python reads them.
        every = await rows.every(tx, Image, chosen)
        found = [image for image in every if _says(image, wanted.search.casefold())]
        return found[cut], len(found)
    count = select(func.count()).select_from(images).where(*_conditions(wanted))
    shown = await rows.every(tx, Image, chosen.slice(cut.start, cut.stop))
    return shown, (await tx.execute(count)).scalar_one()


async def owned_page(
    tx: Tx, user_id: str, direction: SortOrder, cut: slice
) -> tuple[list[tuple[Image, int | None]], int]:
    """A cut of a user's images, each with their own rating, by when they got them; and how many
    there are."""
    own = and_(owned_images.c.image_id == images.c.id, owned_images.c.user_id == user_id)
    rated = and_(ratings.c.image_id == images.c.id, ratings.c.user_id == user_id)
    got_at = owned_images.c.created_at
    count = select(func.count()).select_from(images.join(owned_images, own))
    chosen = (
        select(images, ratings.c.rating.label("user_rating"))
        .select_from(images.join(owned_images, own).outerjoin(ratings, rated))
        .order_by(_directed(got_at, direction), images.c.id)
        .slice(cut.start, cut.stop)
    )
    found: list[tuple[Image, int | None]] = []
    for row in (await tx.execute(chosen)).mappings():
        columns = dict(row)
        rating = columns.pop("user_rating")
        found.append((Image(**columns), rating))
    return found, (await tx.execute(count)).scalar_one()


def _conditions(wanted: ImageFilter) -> Iterator[ColumnElement[bool]]:
    yield images.c.public.is_(True)
    yield images.c.guid.is_not(None)
    if wanted.os is not None:
        yield images.c.os == wanted.os
    if wanted.architecture is not None:
        yield images.c.architecture == wanted.architecture
    for value, least, most in (
        (_PRICE, wanted.min_price, wanted.max_price),
        (_AVERAGE, wanted.min_rating, wanted.max_rating),
    ):
        if least is not None:
            yield value >= least
        if most is not None:
            yield value <= most


def _order(tx: Tx, order: ImageOrder) -> tuple[ColumnElement[Any], ...]:
    alias: ColumnElement[Any] = images.c.alias
    if tx.dialect.name == "postgresql":
        alias = alias.collate("C")  # as SQLite does: by bytes, whatever the database's language
    columns: dict[ImageSort, ColumnElement[Any]] = {
        "alias": alias,
        "added_date": images.c.created_at,
        "price": images.c.price_cents,
        "rating": _AVERAGE,
    }
    return (_directed(columns[order.by], order.direction), images.c.id)


def _directed(column: ColumnElement[Any], direction: SortOrder) -> ColumnElement[Any]:
    return column.asc() if direction == "asc" else column.desc()


def _says(image: Image, folded: str) -> bool:
    texts = (image.alias, image.image_name, image.description, *image.tags)
    return any(folded in text.casefold() for text in texts)
