"""Images: what containers begin as."""

from __future__ import annotations

from sqlalchemy import delete as delete_from
from sqlalchemy import or_, select

from daemon.model_images import Icon, Image
from daemon.store import rows
from daemon.store.database import Tx
from daemon.store.schema import icons, images


async def insert(tx: Tx, image: Image, icon: bytes | None = None) -> None:
    """Add an image and its icon. Raises Conflict("image_alias")."""
    await rows.add(tx, images, image)
    if icon is not None:
        await rows.add(tx, icons, Icon(image.id, icon))


async def get(tx: Tx, image_id: str) -> Image | None:
    """The image with this id."""
    return await rows.one(tx, Image, select(images).where(images.c.id == image_id))


async def find(tx: Tx, named: str) -> Image | None:
    """The image with this id or, where none has it, this alias."""
    called = or_(images.c.id == named, images.c.alias == named)
    found = await rows.every(tx, Image, select(images).where(called))
    return next((one for one in found if one.id == named), next(iter(found), None))


async def icon(tx: Tx, image_id: str) -> bytes | None:
    """An image's icon, a PNG; None where it has none."""
    found = await rows.one(tx, Icon, select(icons).where(icons.c.image_id == image_id))
    return None if found is None else found.png


async def change(tx: Tx, image_id: str, **columns: object) -> bool:
    """Set columns of an image; False where it is gone."""
    return await rows.change(tx, images, image_id, columns)


async def delete(tx: Tx, image_id: str) -> None:
    """Forget an image, its icon and its ratings, and that anybody owns it."""
    await tx.execute(delete_from(images).where(images.c.id == image_id))
