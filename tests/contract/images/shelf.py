"""Images in a catalogue, as a server puts them there, and what users have."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from daemon.model import User, new_id
from daemon.model_images import Image, OwnedImage
from daemon.store import accounts, image_owners, images
from tests.contract.api.api_world import World

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
UBUNTU = Image(
    id="0" * 24,
    server_id="",
    alias="ubuntu/22.04",
    image_name="ubuntu-22.04-amd64",
    architecture="amd64",
    os="ubuntu",
    release="22.04",
    serial="20250110",
    description="Ubuntu 22.04 LTS (Jammy Jellyfish)",
    size_bytes=512_000_000,
    public=True,
    guid="1234567890",
)


async def put(world: World, *, icon: bytes | None = None, **columns: Any) -> Image:
    """An image of `here`: ubuntu, free and public, but for what is given."""
    own = {"id": new_id(), "server_id": world.here.id, "alias": f"image-{new_id()}"}
    made = replace(UBUNTU, **(own | columns))
    async with world.db.write() as tx:
        await images.insert(tx, made, icon)
    return made


async def give(world: World, user: User, image: Image, **columns: Any) -> None:
    """The image is the user's."""
    async with world.db.write() as tx:
        await image_owners.own(tx, OwnedImage(user.id, image.id, **columns))


async def credit(world: World, user: User, cents: int) -> None:
    """More money, or less, for the user."""
    async with world.db.write() as tx:
        assert await accounts.add_to_balance(tx, user.id, cents) is not None


async def balance(world: World, user: User) -> int:
    """What the user has, in cents."""
    async with world.db.read() as tx:
        found = await accounts.get_user(tx, user.id)
    assert found is not None
    return found.balance_cents


async def stored(world: World, image: Image) -> Image:
    """The image as it is now."""
    async with world.db.read() as tx:
        found = await images.get(tx, image.id)
    assert found is not None
    return found
