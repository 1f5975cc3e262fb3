"""Adding images beside the collector: what is being made stays, what is left half-made goes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon.actions import image_adding
from daemon.actions.image_adding import Wanted
from daemon.errors import StartError
from daemon.model import DatasetRow, Role, new_id, now, snapshot_name
from daemon.model_images import Image, image_path
from daemon.store import datasets, image_shelf, images
from tests import tarballs
from tests.engine_world import Place, World
from transfer.errors import ArchiveInvalid, StorageError
from transfer.storage.locks import is_locked, locked


def described(place: Place, alias: str = "tiny/1") -> Image:
    return Image(
        id=new_id(),
        server_id=place.id,
        alias=alias,
        image_name="tiny-1-amd64",
        architecture="amd64",
        os="tiny",
        release="1",
        public=True,
    )


@pytest.fixture
def tarball(tmp_path: Path) -> Iterator[str]:
    path = tmp_path / "image.tar"
    path.write_bytes(tarballs.archive([tarballs.directory("./"), tarballs.file("etc/hostname")]))
    yield str(path)


def lock_dir(place: Place) -> str:
    return place.config.server.state_dir


async def add(world: World, wanted: Wanted, storage: Any = None) -> Image:
    place = world.here
    return await image_adding.add(world.db, storage or place.storage, lock_dir(place), wanted)


async def rows(world: World) -> list[DatasetRow]:
    async with world.db.read() as tx:
        return [r for r in await datasets.on_server(tx, world.here.id) if r.role is Role.IMAGE]


async def shelf(world: World) -> list[Image]:
    async with world.db.read() as tx:
        return await image_shelf.every(tx)


async def nothing_is_left(world: World) -> None:
    assert await rows(world) == []
    assert (await world.forest(world.here)).datasets == {}
    assert os.listdir(lock_dir(world.here)) == []
    assert await world.findings(world.here) == []


@pytest.mark.parametrize("kind", ["archive", "directory"])
async def test_an_image_is_a_frozen_dataset_and_a_row(
    world: World, tarball: str, kind: str
) -> None:
    wanted = Wanted(described(world.here), tarball if kind == "archive" else str(world.tree))
    made = await add(world, wanted)
    assert await shelf(world) == [made]
    (row,) = await rows(world)
    assert (row.id, row.generation_id, row.path) == (made.id, made.id, image_path(made.id))
    assert row.ready
    dataset = (await world.forest(world.here)).datasets[row.path]
    assert [one.guid for one in dataset.snapshots] == [made.guid]
    assert dataset.snapshots[0].name == snapshot_name(made.id)
    assert made.size_bytes == dataset.snapshots[0].referenced_bytes > 0
    assert os.listdir(lock_dir(world.here)) == []
    assert await world.findings(world.here) == []


async def test_a_name_in_use_is_refused_before_anything_is_made(world: World, tarball: str) -> None:
    first = await add(world, Wanted(described(world.here), tarball))
    with pytest.raises(StartError, match="there is tiny/1 already"):
        await add(world, Wanted(described(world.here), "/nowhere"))
    assert await shelf(world) == [first]
    assert len(await rows(world)) == 1


async def test_what_fails_leaves_nothing(world: World, tmp_path: Path) -> None:
    bad = tmp_path / "bad.tar"
    bad.write_bytes(tarballs.archive([tarballs.file("x"), tarballs.file("../x")]))
    with pytest.raises(ArchiveInvalid):
        await add(world, Wanted(described(world.here), str(bad)))
    await nothing_is_left(world)


class Overtaken:
    """A storage during whose work somebody else takes the name."""

    def __init__(self, world: World, alias: str) -> None:
        self._world = world
        self._alias = alias

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world.here.storage, name)

    async def unpack(self, *arguments: Any) -> Any:
        made = await self._world.here.storage.unpack(*arguments)
        async with self._world.db.write() as tx:
            await images.insert(tx, described(self._world.here, self._alias))
        return made


async def test_a_name_that_is_taken_meanwhile_leaves_nothing(world: World, tarball: str) -> None:
    storage = Overtaken(world, "tiny/1")
    with pytest.raises(StartError, match="there is tiny/1 already"):
        await add(world, Wanted(described(world.here), tarball), storage)
    async with world.db.write() as tx:
        (other,) = await image_shelf.every(tx)
        await images.delete(tx, other.id)
    await nothing_is_left(world)


async def half_made(world: World, tarball: str, *, whole: bool) -> DatasetRow:
    """What `add` has made when it is killed: before its dataset, or just before the end."""
    row_id = new_id()
    path = image_path(row_id)
    row = DatasetRow(row_id, world.here.id, Role.IMAGE, row_id, path)
    async with world.db.write() as tx:
        await datasets.insert(tx, row)
    if whole:
        await world.here.storage.unpack(tarball, path, snapshot_name(row_id), lambda _: None)
    return row


@pytest.mark.parametrize("whole", [False, True])
async def test_the_collector_waits_for_whoever_adds_and_then_lets_go(
    world: World, tarball: str, whole: bool
) -> None:
    row = await half_made(world, tarball, whole=whole)
    async with locked(lock_dir(world.here), f"{row.path}.add"):
        for _ in range(2):
            assert await world.collector(world.here).run(now()) == []
        assert await rows(world) == [row]
        assert (row.path in (await world.forest(world.here)).datasets) == whole
    # Killed: the kernel lets go of the lock, and its file stays.
    Path(lock_dir(world.here), f"{row.path.replace('/', '.')}.add.lock").touch()
    await world.settle(world.here)
    await nothing_is_left(world)


async def test_one_that_was_done_since_the_rows_were_read_is_not_half_made(
    world: World, tarball: str
) -> None:
    row = await half_made(world, tarball, whole=True)
    async with world.db.write() as tx:
        await datasets.change(tx, row.id, ready=True)
    busy = await image_adding.in_the_making(world.db, lock_dir(world.here), [row])
    assert busy == {row.id}


async def test_what_was_collected_before_it_was_done_is_no_image(
    world: World, tarball: str
) -> None:
    class Hasty(Overtaken):
        async def unpack(self, *arguments: Any) -> Any:
            made = await world.here.storage.unpack(*arguments)
            async with world.db.write() as tx:
                await datasets.delete(tx, arguments[1].removeprefix("images/"))
            return made

    with pytest.raises(StartError, match="was collected"):
        await add(world, Wanted(described(world.here), tarball), Hasty(world, ""))
    assert await shelf(world) == []
    await nothing_is_left(world)


async def test_what_cannot_be_undone_is_the_collectors(world: World, tarball: str) -> None:
    class Broken(Overtaken):
        async def inspect(self, *_arguments: Any) -> Any:
            raise StorageError("not now")

    with pytest.raises(StartError, match="there is tiny/1 already"):
        await add(world, Wanted(described(world.here), tarball), Broken(world, "tiny/1"))
    assert len(await rows(world)) == 1
    await world.settle(world.here)
    assert await rows(world) == []


async def test_another_users_lock_counts_as_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_arguments: object) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "open", forbidden)
    assert is_locked(str(tmp_path), "images/1.add")


async def test_a_lock_is_seen_and_what_a_killed_process_left_of_one_goes(tmp_path: Path) -> None:
    async with locked(str(tmp_path), "images/1.add"):
        assert is_locked(str(tmp_path), "images/1.add")
        assert not is_locked(str(tmp_path), "images/2.add")
    (tmp_path / "images.1.add.lock").touch()
    assert not is_locked(str(tmp_path), "images/1.add")
    assert os.listdir(tmp_path) == []
