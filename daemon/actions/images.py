"""An image on the server that needs it: it comes once, however many jobs ask for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from daemon.actions import bring, holds
from daemon.actions.anchors import Anchor
from daemon.actions.bring import Arrival
from daemon.actions.context import Context
from daemon.actions.ledger import CatalogueLedger
from daemon.errors import JobError
from daemon.model import now
from daemon.model_images import Image
from daemon.store import datasets, images
from transfer.errors import SnapshotMissing
from transfer.model import Guid
from transfer.storage.base import Source


@asynccontextmanager
async def brought(ctx: Context) -> AsyncIterator[Arrival]:
    """The snapshot of the image that the job names, on this server and held for the while. Its
    own server is asked only where it is not here, so that this works also while that is away.

    Raises JobError IMAGE_NOT_FOUND where the image was removed.
    """
    image, guid = await _named(ctx), str(ctx.job.params["guid"])
    come = Arrival(Anchor(guid, now()), "clone", [], held={guid})
    await holds.announce(ctx, ctx.server_id)
    ledger = CatalogueLedger(ctx, image.server_id)
    sides: list[Source] = [ctx.storage]
    async with AsyncExitStack() as stack:
        if await _is_held(ctx, image, guid):
            await ledger.whole({guid})
        elif image.server_id == ctx.server_id:
            raise SnapshotMissing("the image's snapshot is lost", image=image.id)
        else:
            await holds.announce(ctx, image.server_id)
            link = await stack.enter_async_context(bring.reach(ctx, image.server_id))
            sides.append(link)
            await link.hold([guid], ctx.tag)
            await bring.ship(ctx, link, ledger, come, (guid,))
        yield come
        await holds.let_go(ctx, come.held, *sides)


async def _named(ctx: Context) -> Image:
    async with ctx.db.read() as tx:
        image = await images.get(tx, str(ctx.job.params["image"]))
    if image is None:
        raise JobError("IMAGE_NOT_FOUND", "the image was removed")
    return image


async def _is_held(ctx: Context, image: Image, guid: Guid) -> bool:
    """Whether the snapshot is on this server, in whatever dataset by now; it is held then."""
    async with ctx.db.read() as tx:
        rows = await datasets.of_generation(tx, ctx.server_id, image.id)
    here = await ctx.storage.inspect([row.path for row in rows])
    if here.find(guid) is None:
        return False
    try:
        await ctx.storage.hold([guid], ctx.tag)
    except SnapshotMissing:  # it was let go of in between
        return False
    return True
