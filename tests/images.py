"""Images for tests: a tree that is frozen where the image lives, and its rows in the catalogue."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from daemon.config import load
from daemon.model import DatasetRow, Role, new_id, snapshot_name
from daemon.model_images import Image, image_path
from daemon.store import datasets, images
from daemon.store.database import Database
from transfer.storage import open_storage
from transfer.storage.base import Storage


def image_of(server_id: str, alias: str = "web/1", **columns: Any) -> Image:
    """A public image that costs nothing and has no snapshot yet."""
    made = Image(
        id=new_id(),
        server_id=server_id,
        alias=alias,
        image_name=f"{alias.replace('/', '-')}-amd64",
        architecture="amd64",
        os="web",
        release="1",
        public=True,
    )
    return replace(made, **columns)


async def add(db: Database, storage: Storage, image: Image, tree: str | Path) -> Image:
    """The image with this tree, for everybody to see from now on."""
    path, name = image_path(image.id), snapshot_name(new_id())
    frozen = await storage.take_in(str(tree), path, name, lambda _: None)
    made = replace(image, guid=frozen.guid, size_bytes=frozen.referenced_bytes)
    row = DatasetRow(image.id, image.server_id, Role.IMAGE, image.id, path, ready=True)
    async with db.write() as tx:
        await datasets.insert(tx, replace(row, trimmed=True))
        await images.insert(tx, made)
    return made


async def add_at(config_path: str | Path, tree: str | Path, **columns: Any) -> Image:
    """The same on the server with this config, whose daemon may run."""
    config = load(str(config_path), {})
    where = config.storage
    storage = await open_storage(
        where.backend, where.root, where.mount_root, config.server.state_dir
    )
    db = Database(config.database.url)
    try:
        return await add(db, storage, image_of(config.server.id, **columns), tree)
    finally:
        await db.close()
