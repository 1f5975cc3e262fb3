"""The image that a container begins as."""

from __future__ import annotations

from daemon.api.access import known_server
from daemon.api.errors import InsufficientPermissions, ResourceNotFound, ValidationFailed
from daemon.model import Project, Server
from daemon.model_images import Image
from daemon.store import datasets, image_owners, images
from daemon.store.database import Tx


async def usable_image(tx: Tx, named: str, project: Project, server: Server) -> Image:
    """The image with this alias or id, from which a container of the project can be made on the
    server.

    Raises ResourceNotFound where the project's owner can see none, InsufficientPermissions where
    it must be bought first, and ValidationFailed where it cannot come to that server.
    """
    image = await images.find(tx, named)
    owned = image is not None and await image_owners.owns(tx, project.owner_id, image.id)
    if image is None or image.guid is None or not (image.public or owned):
        raise ResourceNotFound("Image not found", details={"image": "names no image"})
    if image.price_cents and not owned:
        reason = "must be purchased first"
        raise InsufficientPermissions(f"The image {reason}", details={"image": reason})
    home = await known_server(tx, image.server_id, "image")
    if home.backend != server.backend:
        reason = f"the image cannot come from {home.backend} to {server.backend} yet"
        raise ValidationFailed(f"Invalid server_id: {reason}", details={"server_id": reason})
    return image


async def missing_bytes(tx: Tx, image: Image, server: Server) -> int:
    """How much of an image would have to come to a server first, as far as the catalogue knows."""
    if image.server_id == server.id or await datasets.of_generation(tx, server.id, image.id):
        return 0
    return image.size_bytes
