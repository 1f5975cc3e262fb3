"""Adding an image: a root filesystem of this machine is taken in, and put into the catalogue.

`hoodyd image add` does it itself, beside the daemon or without one. No job accounts for what is
half-made then, but a lock that its process holds: from before the dataset has a row until after
the image is in the catalogue, or all is undone. The lock dies with the process, and what is left
is the collector's.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace

from daemon.errors import Conflict, StartError
from daemon.model import DatasetRow, Role, snapshot_name
from daemon.model_images import Image, image_path
from daemon.store import datasets, images
from daemon.store.database import Database
from transfer.errors import TransferError
from transfer.model import Snapshot
from transfer.storage.base import Storage
from transfer.storage.locks import is_locked, locked


@dataclass(frozen=True, slots=True)
class Wanted:
    """An image that is to be: all of it but its snapshot and its size; `source` is the directory
    or the archive of its root filesystem, `icon` a PNG."""

    image: Image
    source: str
    icon: bytes | None = None


async def add(db: Database, storage: Storage, lock_dir: str, wanted: Wanted) -> Image:
    """Takes the root filesystem in, frozen, and makes the image that everybody sees, in one
    transaction; of one that fails nothing stays. `lock_dir` is the storage's.

    Raises StartError where its name is in use, and what `take_in` and `unpack` raise.
    """
    image = wanted.image
    async with db.read() as tx:
        if await images.find(tx, image.alias) is not None:
            raise _in_use(image)
    async with locked(lock_dir, _lock(image.id)), contextlib.AsyncExitStack() as on_failure:
        await _register(db, image)
        on_failure.push_async_callback(_undo, db, storage, image)
        snapshot = await _take_in(storage, wanted)
        made = replace(image, guid=snapshot.guid, size_bytes=snapshot.referenced_bytes)
        await _publish(db, made, wanted.icon)
        on_failure.pop_all()
    return made


async def in_the_making(db: Database, lock_dir: str, rows: Iterable[DatasetRow]) -> set[str]:
    """The ids, of these datasets, of images that somebody adds right now, or has just added."""
    begun = [row for row in rows if row.role is Role.IMAGE and not row.ready]
    idle = [row.id for row in begun if not is_locked(lock_dir, _lock(row.id))]
    async with db.read() as tx:
        # Whoever added it has ended. Did they before they were done? The rows were read earlier.
        again = [await datasets.get(tx, dataset_id) for dataset_id in idle]
    left = {row.id for row in again if row is not None and not row.ready}
    return {row.id for row in begun} - left


async def _register(db: Database, image: Image) -> None:
    row = DatasetRow(
        id=image.id,
        server_id=image.server_id,
        role=Role.IMAGE,
        generation_id=image.id,
        path=image_path(image.id),
    )
    async with db.write() as tx:
        await datasets.insert(tx, row)


async def _take_in(storage: Storage, wanted: Wanted) -> Snapshot:
    path, name = image_path(wanted.image.id), snapshot_name(wanted.image.id)
    take = storage.take_in if os.path.isdir(wanted.source) else storage.unpack
    return await take(wanted.source, path, name, _ignore)


async def _publish(db: Database, image: Image, icon: bytes | None) -> None:
    try:
        async with db.write() as tx:
            if not await datasets.change(tx, image.id, ready=True, trimmed=True):
                raise StartError(f"image: {image_path(image.id)} was collected before it was done")
            await images.insert(tx, image, icon)
    except Conflict:
        raise _in_use(image) from None


async def _undo(db: Database, storage: Storage, image: Image) -> None:
    """What cannot be undone now, because it is busy, the collector does away with."""
    path = image_path(image.id)
    with contextlib.suppress(TransferError):
        dataset = (await storage.inspect([path])).datasets.get(path)
        for snapshot in dataset.snapshots if dataset else ():
            await storage.destroy_snapshot(path, snapshot.guid)
        await storage.destroy(path)
        async with db.write() as tx:
            await datasets.delete(tx, image.id)


def _in_use(image: Image) -> StartError:
    return StartError(f"image: there is {image.alias} already; run: hoodyd image list")


def _lock(image_id: str) -> str:
    return f"{image_path(image_id)}.add"


def _ignore(count: int) -> None:
    """Nobody waits for the bytes of an image."""
