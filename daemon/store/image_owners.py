"""Who owns images, and who rates them how."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import select, update

from daemon.model_images import Image, OwnedImage, Rating
from daemon.store import images, rows
from daemon.store.database import Tx
from daemon.store.schema import owned_images, ratings


async def owns(tx: Tx, user_id: str, image_id: str) -> bool:
    """Whether the user has imported or bought the image."""
    wanted = select(owned_images).where(
        owned_images.c.user_id == user_id, owned_images.c.image_id == image_id
    )
    return await rows.one(tx, OwnedImage, wanted) is not None


async def own(tx: Tx, owned: OwnedImage) -> None:
    """Note that a user, who did not own the image, does now."""
    await rows.add(tx, owned_images, owned)


async def rate(tx: Tx, image: Image, given: Rating) -> Image:
    """Put down a user's rating of the image, in place of their last one. The image as it is now."""
    mine = (ratings.c.user_id == given.user_id, ratings.c.image_id == image.id)
    last = await rows.one(tx, Rating, select(ratings).where(*mine))
    if last is None:
        await rows.add(tx, ratings, given)
    else:
        await tx.execute(update(ratings).where(*mine).values(rating=given.rating))
    # Nobody else writes in this transaction's time, so what was read of the image still holds.
    rating_sum = image.rating_sum + given.rating - (last.rating if last else 0)
    rating_count = image.rating_count + (0 if last else 1)
    await images.change(tx, image.id, rating_sum=rating_sum, rating_count=rating_count)
    return replace(image, rating_sum=rating_sum, rating_count=rating_count)
