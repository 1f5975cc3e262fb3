"""Images -> the JSON objects of their page. Pure."""

from __future__ import annotations

from daemon import money
from daemon.model import Json
from daemon.model_images import STAR, Image
from daemon.views import time_text


def stars(thousandths: int) -> int | float:
    """A rating as the number that was given: 4500 is 4.5."""
    return thousandths / STAR if thousandths % STAR else thousandths // STAR


def average_rating(image: Image) -> int | float:
    """The double that is nearest to the exact average; 0 where nobody has rated."""
    if not image.rating_count:
        return 0
    average = image.rating_sum / (STAR * image.rating_count)
    return int(average) if average.is_integer() else average


def public_image_view(image: Image) -> Json:
    """An image on the public list."""
    return {**_listed(image), "added_date": time_text(image.created_at)}


def image_details_view(image: Image) -> Json:
    """One image."""
    return {**public_image_view(image), "serial": image.serial}


def user_image_view(image: Image, rating: int | None) -> Json:
    """An image of a user, with their own rating in thousandths of a star."""
    return {
        **_listed(image),
        "user_rating": None if rating is None else stars(rating),
        "has_rated": rating is not None,
    }


def _listed(image: Image) -> Json:
    return {
        "id": image.id,
        "alias": image.alias,
        "description": image.description,
        "image_name": image.image_name,
        "architecture": image.architecture,
        "os": image.os,
        "release": image.release,
        "variant": image.variant,
        "size": image.size_bytes,
        "price": money.number(image.price_cents),
        "average_rating": average_rating(image),
        "rating_count": image.rating_count,
        "icon_url": f"/api/v1/images/{image.id}/icon",
        "prespawn": image.prespawn,
    }
