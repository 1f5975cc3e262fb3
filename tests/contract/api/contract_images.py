"""What the images' page says of refusals, and the rows that only its endpoints have."""

from __future__ import annotations

from functools import partial

from tests.contract.api.api_world import Reply
from tests.contract.api.contract_rows import Row
from tests.contract.api.contract_stage import Stage
from tests.contract.images.shelf import put

PUBLIC = "GET /images/public"
DETAILS = "GET /images/public/{id}"
ICON = "GET /images/{id}/icon"
USER = "GET /images/user"
IMPORT = "POST /images/import/{id}"
PURCHASE = "POST /images/purchase/{id}"
RATE = "POST /images/rate/{id}"


async def _too_dear(stage: Stage) -> Reply:
    dear = await put(stage.world, price_cents=10**9)
    return await stage.ask(PURCHASE, id=dear.id)


async def _other(stage: Stage, endpoint: str, name: str) -> Reply:
    return await stage.ask(endpoint, id=stage.images[name].id)


IMAGE_ROWS = [
    Row(IMPORT, 400, "IMAGE_NOT_FREE", partial(_other, endpoint=IMPORT, name="paid")),
    Row(IMPORT, 400, "IMAGE_ALREADY_OWNED", partial(_other, endpoint=IMPORT, name="hidden")),
    Row(PURCHASE, 400, "IMAGE_IS_FREE", partial(_other, endpoint=PURCHASE, name="free")),
    Row(PURCHASE, 400, "IMAGE_ALREADY_OWNED", partial(_other, endpoint=PURCHASE, name="hidden")),
    Row(PURCHASE, 400, "INSUFFICIENT_BALANCE", _too_dear),
    Row(ICON, 404, "RESOURCE_NOT_FOUND", partial(_other, endpoint=ICON, name="free"), "no-icon"),
    Row(
        RATE,
        400,
        "VALIDATION_ERROR",
        partial(Stage.ask, endpoint=RATE, body={"rating": 5.5}),
        "rating",
    ),
    Row(
        PUBLIC,
        400,
        "VALIDATION_ERROR",
        partial(Stage.ask, endpoint=PUBLIC, params={"min_price": "2", "max_price": "1"}),
        "bounds",
    ),
]

IMAGE_PAGES = {
    PUBLIC: "401 MISSING_TOKEN 500 INTERNAL_ERROR",
    DETAILS: "401 MISSING_TOKEN 404 RESOURCE_NOT_FOUND 500 INTERNAL_ERROR",
    ICON: "401 MISSING_TOKEN 404 RESOURCE_NOT_FOUND 500 INTERNAL_ERROR",
    USER: "401 MISSING_TOKEN 500 INTERNAL_ERROR",
    IMPORT: """
        400 IMAGE_NOT_FREE IMAGE_ALREADY_OWNED
        401 MISSING_TOKEN 404 RESOURCE_NOT_FOUND 500 INTERNAL_ERROR""",
    PURCHASE: """
        400 INSUFFICIENT_BALANCE IMAGE_ALREADY_OWNED IMAGE_IS_FREE
        401 MISSING_TOKEN 404 RESOURCE_NOT_FOUND 500 INTERNAL_ERROR""",
    RATE: "400 VALIDATION_ERROR 401 MISSING_TOKEN 404 RESOURCE_NOT_FOUND 500 INTERNAL_ERROR",
}
_MISSING = {DETAILS: "Public image not found", ICON: "Image icon not found"}
_FAULTS = {
    PUBLIC: "Failed to retrieve public images",
    DETAILS: "Failed to retrieve public image details",
    ICON: "Failed to retrieve image icon",
    USER: "Failed to retrieve user images",
    IMPORT: "Failed to import image",
    PURCHASE: "Failed to purchase image",
    RATE: "Failed to rate image",
}
_NOT_IMPORTED = "Image is not free or already imported"
_NOT_BOUGHT = "Insufficient balance or image already owned"

IMAGE_MESSAGES = {
    **{(one, 401, "MISSING_TOKEN"): "Authentication required" for one in IMAGE_PAGES},
    **{(one, 500, "INTERNAL_ERROR"): said for one, said in _FAULTS.items()},
    **{
        (one, 404, "RESOURCE_NOT_FOUND"): _MISSING.get(one, "Image not found")
        for one in IMAGE_PAGES
        if "{id}" in one
    },
    (IMPORT, 400, "IMAGE_NOT_FREE"): _NOT_IMPORTED,
    (IMPORT, 400, "IMAGE_ALREADY_OWNED"): _NOT_IMPORTED,
    (PURCHASE, 400, "INSUFFICIENT_BALANCE"): _NOT_BOUGHT,
    (PURCHASE, 400, "IMAGE_ALREADY_OWNED"): _NOT_BOUGHT,
    (PURCHASE, 400, "IMAGE_IS_FREE"): _NOT_BOUGHT,
}
