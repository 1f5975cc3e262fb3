"""Images as their operator sees them: all of them."""

from __future__ import annotations

from sqlalchemy import select

from daemon.model_images import Image
from daemon.store import rows
from daemon.store.database import Tx
from daemon.store.schema import images


async def every(tx: Tx) -> list[Image]:
    """All images, by their names."""
    return await rows.every(tx, Image, select(images).order_by(images.c.alias))
