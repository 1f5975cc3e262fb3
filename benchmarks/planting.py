"""A server with a thousand containers, without the hour that it takes to make them one by one:
some are made through the API, and each is the model for more, in ZFS and in the catalogue, which
differ from it in nothing but ids and names."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from sqlalchemy import insert

from benchmarks.world import World, run
from daemon.demo.servers import DemoFailed
from daemon.model import (
    Container,
    DatasetRow,
    UserSnapshot,
    generation_path,
    new_id,
    now,
    snapshot_name,
)
from daemon.store import containers, datasets
from daemon.store.database import Database
from daemon.store.rows import dump
from daemon.store.schema import containers as containers_table
from daemon.store.schema import datasets as datasets_table
from daemon.store.schema import user_snapshots
from daemon.store.sequence import next_sequence
from transfer.storage.zfs_proc import mounted

AT_ONCE = 8
MOUNTED_SECONDS_MAX = 300.0
POLL_SECONDS = 0.5
_BELOW = ("-o", "canmount=off", "-o", "mountpoint=none", "-o", "atime=off")


@dataclass(frozen=True, slots=True)
class Model:
    """A copy that was made through the API, and its live dataset's row and origin."""

    container: Container
    dataset: DatasetRow
    origin: str


@asynccontextmanager
async def catalogue(world: World) -> AsyncIterator[Database]:
    """The servers' catalogue."""
    db = Database(f"sqlite:///{world.servers.directory}/catalogue.db")
    try:
        yield db
    finally:
        await db.close()


async def plant(world: World, db: Database, copies: Sequence[str], count: int) -> list[str]:
    """Makes containers until there are `count`, these copies with them; their ids."""
    models = [await _model(world, db, copy) for copy in copies]
    slots = asyncio.Semaphore(AT_ONCE)

    async def another(number: int) -> tuple[Container, DatasetRow]:
        async with slots:
            return await _another(world, models[number % len(models)], number)

    made = await asyncio.gather(*(another(number) for number in range(count - len(models))))
    async with db.write() as tx:
        await tx.execute(insert(containers_table), [dump(container) for container, _ in made])
        await tx.execute(insert(datasets_table), [dump(row) for _, row in made])
    return [*copies, *(container.id for container, _ in made)]


async def _model(world: World, db: Database, copy: str) -> Model:
    async with db.read() as tx:
        container = await containers.get(tx, copy)
        row = await datasets.get(tx, container.generation_id or "") if container else None
    if container is None or row is None or row.storage_name is None:
        raise DemoFailed("a copy has no live dataset")
    origin = await run("zfs", "get", "-Hp", "-o", "value", "origin", row.storage_name)
    return Model(container, row, origin.strip())


async def _another(world: World, model: Model, number: int) -> tuple[Container, DatasetRow]:
    container_id, generation_id = new_id(), new_id()
    path = generation_path(container_id, generation_id)
    name = f"{world.servers.members[0].storage_root}/{path}"
    mounts = os.path.dirname(os.path.dirname(model.dataset.rootfs or ""))
    rootfs = os.path.join(mounts, container_id, generation_id)
    container = replace(
        model.container,
        id=container_id,
        name=f"planted-{number}",
        generation_id=generation_id,
        ssh_public_key=None,
        ssh_key_id=None,
        ssh_private_sealed=None,
    )
    row = replace(
        model.dataset,
        id=generation_id,
        generation_id=generation_id,
        path=path,
        container_id=container_id,
        storage_name=name,
        rootfs=rootfs,
    )
    # Settled is what is in its origin: no identity is put into it.
    properties = {
        "canmount": "noauto",
        "mountpoint": rootfs,
        "readonly": "off",
        "atime": "off",
        "hoody:settled": model.origin.partition("@")[2],
        "hoody:container": container_id,
        "hoody:role": "generation",
    }
    options = [part for key, value in properties.items() for part in ("-o", f"{key}={value}")]
    await run("zfs", "create", *_BELOW, os.path.dirname(name))
    await run("zfs", "clone", *options, model.origin, name)
    os.symlink(generation_id, os.path.join(mounts, container_id, "current"))
    return container, row


async def all_mounted(world: World, db: Database) -> None:
    """Returns when the servers, which start a keeper anew that stood still, have mounted all that
    is live. Raises DemoFailed where they have not in time."""
    async with db.read() as tx:
        live = {
            f"{member.storage_root}/{generation_path(container.id, container.generation_id)}"
            for member in world.servers.members
            for container in await containers.on_server(tx, member.server_id)
            if container.generation_id is not None
        }
    deadline = time.monotonic() + MOUNTED_SECONDS_MAX
    while missing := live - {name for name, _ in mounted()}:
        if time.monotonic() > deadline:
            raise DemoFailed(f"{len(missing)} containers are not mounted")
        await asyncio.sleep(POLL_SECONDS)


async def take_snapshots(world: World, db: Database, wanted: Sequence[str], count: int) -> None:
    """Gives each of these containers so many snapshots, and lists them. They are taken of all
    datasets at once; those of others, which nobody lists, go again."""
    top = f"{world.servers.members[0].storage_root}/containers"
    names = {snapshot_name(new_id()): number for number in range(count)}
    for name in names:
        await run("zfs", "snapshot", "-r", f"{top}@{name}")
    said = await run("zfs", "get", "-Hpr", "-o", "name,value", "guid", top)
    listed = []
    async with db.write() as tx:
        sequences = [await next_sequence(tx) for _ in range(count)]
        for line in said.splitlines():
            full_name, guid = line.split("\t")
            path, _, name = full_name.partition("@")
            container_id, _, generation_id = path.removeprefix(f"{top}/").partition("/")
            if name not in names or not generation_id:
                continue
            if container_id not in wanted:
                await run("zfs", "destroy", full_name)
                continue
            number = names[name]
            entry = UserSnapshot(
                container_id, new_id(), f"planted-{number}", guid, sequences[number], now()
            )
            listed.append(dump(entry))
        await tx.execute(insert(user_snapshots), listed)
