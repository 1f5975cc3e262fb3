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
from pathlib import Path

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
from transfer.storage.zfs_command import Zfs
from transfer.storage.zfs_proc import mounted

AT_ONCE = 24  # each waits for a transaction group, which they share
MOUNTED_SECONDS_MAX = 300.0
POLL_SECONDS = 0.5
_BED = ("-o", "canmount=off", "-o", "mountpoint=none")


@dataclass(frozen=True, slots=True)
class Model:
    """A copy that was made through the API, and its live dataset's row and origin."""

    container: Container
    dataset: DatasetRow
    origin: str


@dataclass(frozen=True, slots=True)
class _Seen:
    """A dataset or a snapshot, as `zfs` tells of it."""

    guid: str
    referenced_bytes: int
    used_bytes: int


@asynccontextmanager
async def catalogue(world: World) -> AsyncIterator[Database]:
    """The servers' catalogue."""
    db = Database(f"sqlite:///{world.servers.directory}/catalogue.db")
    try:
        yield db
    finally:
        await db.close()


async def plant(
    world: World, db: Database, copies: Sequence[str], count: int, snapshots: int
) -> list[str]:
    """Makes containers until there are `count`, these copies with them, and gives each of all so
    many snapshots; their ids."""
    models = [await _model(world, db, copy) for copy in copies]
    slots = asyncio.Semaphore(AT_ONCE)
    bed = f"{world.servers.members[0].storage_root}/planting"
    await run("zfs", "create", *_BED, bed)

    async def another(number: int) -> tuple[Container, DatasetRow]:
        async with slots:
            return await _another(world, models[number % len(models)], bed, number)

    made = await asyncio.gather(*(another(number) for number in range(count - len(models))))
    planted = [row for _, row in made]
    names = await _take_snapshots(world, models, bed, snapshots)
    await _plant_out(world, bed, planted)
    seen = await _seen(world)
    async with db.write() as tx:
        sequences = [await next_sequence(tx) for _ in names]
        entries = [
            _entry(row, number, sequences[number], seen[f"{row.storage_name}@{name}"])
            for row in (*(model.dataset for model in models), *planted)
            for number, name in enumerate(names)
        ]
        rows = [replace(row, settled_guid=seen[_settled(row)].guid) for row in planted]
        await tx.execute(insert(containers_table), [dump(container) for container, _ in made])
        await tx.execute(insert(datasets_table), [dump(row) for row in rows])
        await tx.execute(insert(user_snapshots), [dump(entry) for entry in entries])
    return [*copies, *(container.id for container, _ in made)]


async def _take_snapshots(world: World, models: Sequence[Model], bed: str, count: int) -> list[str]:
    """Gives the models and all that is in the bed so many snapshots; their names."""
    names = [snapshot_name(new_id()) for _ in range(count)]
    for name in names:
        await run("zfs", "snapshot", "-r", f"{bed}@{name}")
    of_models = [f"{model.dataset.storage_name}@{name}" for model in models for name in names]
    await _each(world, ["snapshot"], of_models)
    return names


async def _plant_out(world: World, bed: str, rows: Sequence[DatasetRow]) -> None:
    """Puts what is in the bed where it belongs, as something that is live. Only then has each
    dataset its parent, of which no snapshot is wanted."""
    names = [str(row.storage_name) for row in rows]
    await _each(world, ["rename", "-p"], [f"{bed}/{row.id} {row.storage_name}" for row in rows])
    await _each(world, ["snapshot"], [_settled(row) for row in rows])
    await _each(world, ["set", "canmount=noauto"], names)
    await run("zfs", "destroy", "-r", bed)
    await _mount(world, rows)


async def _each(world: World, verb: Sequence[str], lines: Sequence[str]) -> None:
    """Does this to what is on each line, with as little beside `zfs` as there can be."""
    file = Path(world.servers.directory, "lines")
    await asyncio.to_thread(file.write_text, "\n".join(lines), encoding="ascii")
    await run("xargs", "-r", "-a", str(file), "-L", "1", "-P", str(AT_ONCE), "zfs", *verb)


async def _mount(world: World, rows: Sequence[DatasetRow]) -> None:
    """One after the other: two mounts at once may wedge zfs-fuse, which `do` sees to."""
    zfs = Zfs(world.servers.members[0].storage_root)
    for row in rows:
        await zfs.do("mount", str(row.storage_name))
        os.symlink(row.id, os.path.join(os.path.dirname(str(row.rootfs)), "current"))


def _entry(row: DatasetRow, number: int, sequence: int, seen: _Seen) -> UserSnapshot:
    return UserSnapshot(
        row.container_id or "",
        new_id(),
        f"planted-{number}",
        seen.guid,
        sequence,
        now(),
        referenced_bytes=seen.referenced_bytes,
        unique_bytes=seen.used_bytes,
    )


async def _model(world: World, db: Database, copy: str) -> Model:
    async with db.read() as tx:
        container = await containers.get(tx, copy)
        row = await datasets.get(tx, container.generation_id or "") if container else None
    if container is None or row is None or row.storage_name is None:
        raise DemoFailed("a copy has no live dataset")
    origin = await run("zfs", "get", "-Hp", "-o", "value", "origin", row.storage_name)
    return Model(container, row, origin.strip())


async def _another(
    world: World, model: Model, bed: str, number: int
) -> tuple[Container, DatasetRow]:
    """A clone in the bed, and the rows of what it will be."""
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
    properties = {
        "canmount": "off",  # for a clone is mounted at once
        "mountpoint": rootfs,
        "readonly": "off",
        "atime": "off",
        "hoody:settled": snapshot_name(generation_id),
        "hoody:container": container_id,
        "hoody:role": "generation",
        "hoody:live-since": now().isoformat(),
    }
    options = [part for key, value in properties.items() for part in ("-o", f"{key}={value}")]
    await run("zfs", "clone", *options, model.origin, f"{bed}/{generation_id}")
    return container, row


def _settled(row: DatasetRow) -> str:
    """The full name of the snapshot that marks a generation's first state. No identity is put
    into what is planted, so that it is what is in its origin."""
    return f"{row.storage_name}@{snapshot_name(row.id)}"


async def _seen(world: World) -> dict[str, _Seen]:
    """What is below the first server's containers, by full name."""
    top = f"{world.servers.members[0].storage_root}/containers"
    found: dict[str, dict[str, str]] = {}
    asked = ("guid", "referenced", "used")
    said = await run("zfs", "get", "-Hpr", "-o", "name,property,value", ",".join(asked), top)
    for line in said.splitlines():
        name, key, value = line.split("\t")
        found.setdefault(name, {})[key] = value
    return {
        name: _Seen(row["guid"], int(row["referenced"]), int(row["used"]))
        for name, row in found.items()
    }


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
