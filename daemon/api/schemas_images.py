"""The shapes of what the API answers about images, for its OpenAPI document."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from daemon.api.fields import ObjectId
from daemon.api.schemas import Count, Pagination, Shape, Size, Time
from daemon.model_images import STARS_MAX

Amount = Annotated[float, Field(ge=0, description="Money, with at most two decimals")]
Rating = Annotated[float, Field(ge=0, le=STARS_MAX, description="Stars")]


class ListedImage(Shape):
    """What every list tells of an image; its average is 0 where nobody has rated it."""

    id: ObjectId
    alias: str
    description: str
    image_name: str
    architecture: str
    os: str
    release: str
    variant: str
    size: Size
    price: Amount
    average_rating: Rating
    rating_count: Count
    icon_url: str
    prespawn: bool


class PublicImage(ListedImage):
    """An image on the public list."""

    added_date: Time


class ImageDetails(PublicImage):
    """An image."""

    serial: str


class UserImage(ListedImage):
    """An image that the user has imported or bought."""

    user_rating: Rating | None
    has_rated: bool


class PublicImageList(Shape):
    """A page of public images."""

    images: list[PublicImage]
    pagination: Pagination


class UserImageList(Shape):
    """A page of the user's images."""

    images: list[UserImage]
    pagination: Pagination


class Imported(Shape):
    """Nothing: the image is the user's."""


class Purchased(Shape):
    """What the image cost, and what the user has left."""

    price_paid: Amount
    remaining_balance: Amount


class Rated(Shape):
    """The rating that was given, and what it makes of the average."""

    new_rating: Rating
    average_rating: Rating
    rating_count: Count
