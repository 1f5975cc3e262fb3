"""What images are used for: which servers need one."""

from __future__ import annotations

from sqlalchemy import or_, select

from daemon.model_images import Image
from daemon.store import rows
from daemon.store.database import Tx
from daemon.store.schema import containers, images, servers
from transfer.model import Guid


async def of_server(tx: Tx, server_id: str) -> list[Image]:
    """The images that live on a server, as far as they are frozen, by alias."""
    theirs = (images.c.server_id == server_id, images.c.guid.is_not(None))
    return await rows.every(tx, Image, select(images).where(*theirs).order_by(images.c.alias))


async def needed_on(tx: Tx, server_id: str) -> set[Guid]:
    """The snapshots of images that a server keeps: of those that live there, of those that are to
    be everywhere, and of those of its containers."""
    begun_as = select(containers.c.container_image_id).where(
        containers.c.server_id == server_id, containers.c.container_image_id.is_not(None)
    )
    wanted = select(images.c.guid).where(
        images.c.guid.is_not(None),
        or_(images.c.server_id == server_id, images.c.prespawn, images.c.id.in_(begun_as)),
    )
    return set((await tx.execute(wanted)).scalars())


async def to_prespawn(tx: Tx, server_id: str) -> list[Image]:
    """The images that are to be on every server, live on another one than this, and can come from
    there: between backends there is no way. By alias."""
    here = select(servers.c.backend).where(servers.c.id == server_id).scalar_subquery()
    wanted = (
        select(images)
        .join(servers, servers.c.id == images.c.server_id)
        .where(
            images.c.prespawn,
            images.c.guid.is_not(None),
            images.c.server_id != server_id,
            servers.c.backend == here,
        )
    )
    return await rows.every(tx, Image, wanted.order_by(images.c.alias))
