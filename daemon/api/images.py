"""Images: the public list, details and icons, a user's own; import, purchase and rate.

A public image is seen by everybody, any other by those who own it, and none by anybody until it
is frozen. Only public images can be had.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import Field, ValidationInfo, field_validator

from daemon import money
from daemon.api.errors import (
    ImageAlreadyOwned,
    ImageIsFree,
    ImageNotFree,
    InsufficientBalance,
    InternalError,
    MissingToken,
    ResourceNotFound,
)
from daemon.api.fields import Fields, Line, Nothing, PageQuery, PriceBound, RatingBound, Stars
from daemon.api.routing import Answer, AnyRoute, Call, Plain, Route
from daemon.api.showing import page_of
from daemon.auth import Scope
from daemon.model_images import Image, OwnedImage, Rating
from daemon.store import accounts, image_owners, images
from daemon.store.database import Tx
from daemon.store.image_lists import (
    ImageFilter,
    ImageOrder,
    ImageSort,
    SortOrder,
    owned_page,
    public_page,
)
from daemon.store.rows import cut
from daemon.views_images import (
    average_rating,
    image_details_view,
    public_image_view,
    stars,
    user_image_view,
)

Word = Annotated[Line, Field(min_length=1, max_length=100)]
SearchText = Annotated[Line, Field(max_length=100)]


class PublicQuery(PageQuery):
    """Which public images, and in what order; what is given goes together, and bounds are let in
    themselves. `search` is looked for in alias, name, description and tags, whatever its case."""

    os: Word | None = None
    architecture: Word | None = None
    min_price: PriceBound | None = None
    max_price: PriceBound | None = None
    min_rating: RatingBound | None = None
    max_rating: RatingBound | None = None
    search: SearchText | None = None
    sort_by: ImageSort = "added_date"
    sort_order: SortOrder = "desc"

    @field_validator("max_price", "max_rating")
    @classmethod
    def _is_no_less(cls, value: float | None, info: ValidationInfo) -> float | None:
        lower = str(info.field_name).replace("max", "min")
        least = info.data.get(lower)
        if value is not None and least is not None and value < least:
            raise ValueError(f"must not be less than {lower}")
        return value


class UserQuery(PageQuery):
    """Which part of the user's images, and in what order."""

    sort_by: Literal["created_at"] = "created_at"
    sort_order: SortOrder = "desc"


class RatingBody(Fields):
    """How many stars the user gives."""

    rating: Stars


async def public(call: Call[Nothing, PublicQuery]) -> Answer:
    """The public images."""
    query = call.query
    wanted = ImageFilter(
        os=query.os,
        architecture=query.architecture,
        min_price=query.min_price,
        max_price=query.max_price,
        min_rating=query.min_rating,
        max_rating=query.max_rating,
        search=query.search,
    )
    order = ImageOrder(query.sort_by, query.sort_order)
    async with call.deps.db.read() as tx:
        found, total = await public_page(tx, wanted, order, cut(query.page, query.limit))
    views = [public_image_view(image) for image in found]
    return Answer(page_of("images", views, total, query), "Public images retrieved successfully")


async def details(call: Plain) -> Answer:
    """One image."""
    async with call.deps.db.read() as tx:
        found = await _visible(tx, call)
    return Answer(image_details_view(found), "Public image details retrieved successfully")


async def icon(call: Plain) -> web.Response:
    """An image's icon, a PNG."""
    async with call.deps.db.read() as tx:
        png = await images.icon(tx, (await _visible(tx, call)).id)
    if png is None:
        raise ResourceNotFound
    etag = hashlib.sha256(png).hexdigest()
    # Who may see it can change, so it is kept for one user, and asked for each time.
    headers = {"ETag": f'"{etag}"', "Cache-Control": "private, no-cache"}
    known = call.request.if_none_match or ()
    if any(one.value in (etag, "*") for one in known):
        return web.Response(status=304, headers=headers)
    headers["X-Content-Type-Options"] = "nosniff"
    return web.Response(body=png, content_type="image/png", headers=headers)


async def user(call: Call[Nothing, UserQuery]) -> Answer:
    """The images that the caller has imported or bought."""
    query = call.query
    part = cut(query.page, query.limit)
    async with call.deps.db.read() as tx:
        found, total = await owned_page(tx, call.caller.user_id, query.sort_order, part)
    views = [user_image_view(image, rating) for image, rating in found]
    return Answer(page_of("images", views, total, query), "User images retrieved successfully")


async def import_free(call: Plain) -> Answer:
    """Makes a free image the caller's."""
    async with call.write() as tx:
        found = await _offered(tx, call)
        if found.price_cents:
            price = money.text(found.price_cents)
            raise ImageNotFree(details={"id": f"the image costs {price}: purchase it"})
        await image_owners.own(tx, OwnedImage(call.caller.user_id, found.id))
        return await call.keep(tx, Answer({}, "Free image imported successfully"))


async def purchase(call: Plain) -> Answer:
    """Makes an image the caller's, and takes its price from their balance."""
    user_id = call.caller.user_id
    async with call.write() as tx:
        found = await _offered(tx, call)
        price = found.price_cents
        if not price:
            raise ImageIsFree(details={"id": "the image is free: import it"})
        left = await accounts.add_to_balance(tx, user_id, -price)
        if left is None:
            reason = f"is less than the price, {money.text(price)}"
            raise InsufficientBalance(details={"balance": reason})
        await image_owners.own(tx, OwnedImage(user_id, found.id, price))
        paid = {"price_paid": money.number(price), "remaining_balance": money.number(left)}
        return await call.keep(tx, Answer(paid, "Image purchased successfully"))


async def rate(call: Call[RatingBody, Nothing]) -> Answer:
    """Puts down the caller's rating, in place of their last one."""
    given = Rating(call.caller.user_id, call.id, call.body.rating)
    async with call.write() as tx:
        found = await image_owners.rate(tx, await _visible(tx, call), given)
        rated = {
            "new_rating": stars(given.rating),
            "average_rating": average_rating(found),
            "rating_count": found.rating_count,
        }
        return await call.keep(tx, Answer(rated, "Image rated successfully"))


async def _visible(tx: Tx, call: Call[RatingBody, Nothing] | Plain) -> Image:
    """The image. Raises ResourceNotFound where there is none for the caller."""
    found, caller = await images.get(tx, call.id), call.caller
    if found is None or found.guid is None:
        raise ResourceNotFound
    may_see = found.public or caller.is_admin
    if not may_see and not await image_owners.owns(tx, caller.user_id, found.id):
        raise ResourceNotFound
    return found


async def _offered(tx: Tx, call: Plain) -> Image:
    """The public image. Raises ResourceNotFound, and ImageAlreadyOwned."""
    found = await images.get(tx, call.id)
    if found is not None and await image_owners.owns(tx, call.caller.user_id, found.id):
        raise ImageAlreadyOwned(details={"id": "the image is yours already"})
    if found is None or found.guid is None or not found.public:
        raise ResourceNotFound
    return found


def _said(task: str, missing: str = "Image not found", refused: str = "") -> Mapping[str, str]:
    """The page's messages. It has one for all that is not had."""
    codes = (ImageNotFree.code, ImageAlreadyOwned.code, ImageIsFree.code, InsufficientBalance.code)
    return {
        MissingToken.code: "Authentication required",
        InternalError.code: f"Failed to {task}",
        ResourceNotFound.code: missing,
        **(dict.fromkeys(codes, refused) if refused else {}),
    }


_ICON = _said("retrieve image icon", "Image icon not found")
_IMPORT = _said("import image", refused="Image is not free or already imported")
_DETAILS = _said("retrieve public image details", "Public image not found")
_PURCHASE = _said("purchase image", refused="Insufficient balance or image already owned")


def _get(path: str, handler: Any, query: type[Fields], messages: Mapping[str, str]) -> AnyRoute:
    return Route("GET", path, Scope.READ, handler, Nothing, query, messages=messages)


def _post(path: str, handler: Any, body: type[Fields], messages: Mapping[str, str]) -> AnyRoute:
    return Route("POST", path, Scope.CONTAINERS, handler, body, Nothing, messages=messages)


ROUTES: tuple[AnyRoute, ...] = (
    _get("/images/public", public, PublicQuery, _said("retrieve public images")),
    _get("/images/public/{id}", details, Nothing, _DETAILS),
    _get("/images/{id}/icon", icon, Nothing, _ICON),
    _get("/images/user", user, UserQuery, _said("retrieve user images")),
    _post("/images/import/{id}", import_free, Nothing, _IMPORT),
    _post("/images/purchase/{id}", purchase, Nothing, _PURCHASE),
    _post("/images/rate/{id}", rate, RatingBody, _said("rate image")),
)
