"""A year of a container, its copy and their servers: what they hold at the end is what they need.

Every day the copy is synced, every week a state is kept and an earlier one restored, every month
containers and snapshots are deleted, and now and then the collector comes by.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.model import Container, now
from daemon.store import bases, user_snapshots
from tests.engine_world import Place, World
from tests.pinning import PinningStorage

KEPT_SNAPSHOTS = 4
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class Year:
    """A source on `here`, its copy on `there`, a twin beside the source, for `days`."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.chance = random.Random(seed)
        self.texts: dict[str, str] = {}
        self.day = 0

    async def run(self, days: int) -> None:
        self.source = await self.world.create("source")
        self.copy = await self.world.copy(self.source)
        self.twin = await self.world.copy(self.source, self.world.here, "twin")
        for self.day in range(1, days + 1):
            await self.write(f"day {self.day}")
            await self.world.sync(self.copy)
            assert await self.text(self.copy) == f"day {self.day}"
            if self.day % 7 == 0:
                await self.end_of_week()
            if self.day % 30 == 0:
                await self.end_of_month()

    async def write(self, text: str) -> None:
        (await self.world.live(self.source) / "file").write_text(text)

    async def text(self, container: Container) -> str:
        return (await self.world.live(container) / "file").read_text()

    async def end_of_week(self) -> None:
        """A snapshot of the source, and an earlier state live in it or in its copy."""
        await self.write(f"week {self.day}")
        taken = await self.world.snapshot(self.source)
        self.texts[taken.id] = f"week {self.day}"
        await self.world.sync(self.copy)
        container = self.chance.choice([self.source, self.copy])
        chosen = self.chance.choice(await self.world.listed(container))
        await self.world.restore(container, chosen)
        assert await self.text(container) == self.texts[chosen.id]
        for place in self.world.places:
            await self.world.collector(place).run(now())

    async def end_of_month(self) -> None:
        """The twin goes and comes again, and each list is cut to a few snapshots."""
        await self.world.remove(self.twin)
        for container in (self.source, self.copy):
            listed = await self.world.listed(container)
            self.chance.shuffle(listed)
            for entry in listed[KEPT_SNAPSHOTS:]:
                await self.world.delete_snapshot(entry)
        self.twin = await self.world.copy(self.source, self.world.here, f"twin-{self.day}")

    async def settle(self) -> None:
        for place in self.world.places:
            await self.world.settle(place)

    async def end(self) -> None:
        for container in (self.source, self.twin, self.copy):
            await self.world.remove(container)
        await self.settle()


async def needed(world: World, place: Place) -> set[str]:
    """The snapshots that the catalogue names for a server, but for those of live generations."""
    async with world.db.read() as tx:
        kept = {base.guid for base in await bases.held_by(tx, place.id)}
        return kept | await user_snapshots.needed_on(tx, place.id)


async def check_storage(year: Year, place: Place, live: set[str]) -> None:
    """Beside the live generations, at most one dataset for each needed snapshot."""
    world = year.world
    forest = await world.forest(place)
    guids = await needed(world, place)
    assert live <= forest.datasets.keys()
    for dataset in forest:
        if dataset.path not in live:
            assert dataset.head is not None
            assert dataset.head.guid in guids
    snapshots = [snapshot.guid for snapshot in forest.snapshots()]
    assert len(snapshots) == len(set(snapshots))
    assert len(snapshots) <= len(guids) + 2 * len(live)  # settled, and cloned from
    assert await world.paths(place) == sorted(forest.datasets)
    assert await world.findings(place) == []


async def check_year(year: Year) -> None:
    world = year.world
    await year.settle()
    for place in world.places:
        ours = [await world.get(one.id) for one in (year.source, year.twin, year.copy)]
        live = {world.path(one) for one in ours if one.server_id == place.id}
        await check_storage(year, place, live)
    for container in (year.source, year.copy):
        for entry in await world.listed(container):
            await world.restore(container, entry)
            assert await year.text(container) == year.texts[entry.id]
    await year.end()
    for place in world.places:
        assert (await world.forest(place)).datasets == {}
        assert await world.paths(place) == []
        assert os.listdir(place.config.storage.mount_root) == []


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory, where there is such a place: a year has some ten thousand commits."""
    with tempfile.TemporaryDirectory(prefix="hoody-year-", dir=MEMORY) as name:
        yield Path(name)


@pytest.fixture
async def pinning_world(world: World) -> World:
    """Its storages are directories whose clones pin."""
    for place in world.places:
        at = place.config
        place.storage = await PinningStorage.open(
            at.storage.root, at.storage.mount_root, at.server.state_dir
        )
    return world


async def test_a_year_where_clones_pin(pinning_world: World) -> None:
    year = Year(pinning_world, seed=1)
    await year.run(365)
    await check_year(year)
    for place in pinning_world.places:
        assert isinstance(place.storage, PinningStorage)
        assert place.storage.promotions > 5


async def test_a_quarter_on_dir(world: World) -> None:
    year = Year(world, seed=1)
    await year.run(91)
    await check_year(year)
    for place in world.places:
        root = Path(place.config.storage.root)
        assert [file for file in root.rglob("*") if not file.is_dir()] == []


@pytest.mark.zfs
async def test_a_month_on_zfs(zfs_world: World) -> None:
    year = Year(zfs_world, seed=2)
    await year.run(31)
    await check_year(year)
