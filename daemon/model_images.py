"""Frozen values of the catalogue of images. Money is whole cents, ratings are thousandths of a
star: both add up exactly."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from daemon.model import Json, now
from transfer.model import Guid

STAR = 1000
"""A star in the unit of ratings."""

STARS_MAX = 5


@dataclass(frozen=True, slots=True)
class Image:
    """What containers begin as: the snapshot `guid`, which lives on `server_id` and is shipped to
    others where it is needed. `guid` is None until it is frozen there; until then nobody sees it.

    `alias` is unique, `image_name` is for people. A `public` image is on everybody's list; one
    that is not stays with those who own it. `rating_sum` is that of `rating_count` ratings.
    """

    id: str
    server_id: str
    alias: str
    image_name: str
    architecture: str
    os: str
    release: str
    variant: str = "default"
    serial: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    size_bytes: int = 0
    price_cents: int = 0
    public: bool = False
    prespawn: bool = False
    guid: Guid | None = None
    rating_sum: int = 0
    rating_count: int = 0
    created_at: datetime = field(default_factory=now)


@dataclass(frozen=True, slots=True)
class Icon:
    """An image's icon: the bytes of a PNG."""

    image_id: str
    png: bytes


@dataclass(frozen=True, slots=True)
class OwnedImage:
    """A user has imported an image (for nothing) or bought it. Key: user and image."""

    user_id: str
    image_id: str
    paid_cents: int = 0
    created_at: datetime = field(default_factory=now)


@dataclass(frozen=True, slots=True)
class Rating:
    """One user's rating of an image, in thousandths of a star. Key: user and image."""

    user_id: str
    image_id: str
    rating: int


def image_params(image: Image) -> Json:
    """A job's params that name the image it reads. Its snapshot is kept on every server until the
    job has ended."""
    return {"image": image.id, "guid": image.guid}


def image_path(image_id: str) -> str:
    """Where an image's dataset lies under the storage's root of its server."""
    return f"images/{image_id}"
