"""prod -> staging -> dev over three servers, synced every day: the second hop passes on what prod
has changed, and little more, though staging is another generation every day."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from daemon import cli_accounts
from daemon.model import Container, hold_tag, now
from daemon.store import bases, holdings, servers
from daemon.store.database import Database
from tests.engine_world import World

KINDS = [pytest.param("zfs", marks=pytest.mark.zfs), "dir"]
DAYS = 10
RECORD_BYTES = 128 << 10
RECORDS = 32
NEW_BYTES = 2 * RECORD_BYTES
LOG_BYTES = 4_000
SLACK_BYTES = 64 << 10


@pytest.fixture(params=KINDS)
async def world(request: pytest.FixtureRequest, db: Database, url: str, tmp_path: Path) -> World:
    """Three servers of one kind."""
    names, roots = ("a", "b", "c"), {}
    if request.param == "zfs":
        make: Callable[[str], str] = request.getfixturevalue("zfs_pool")
        roots = {name: make(name) for name in names}
    made = World(db, url, tmp_path)
    await made.fill(names, roots)
    return made


@dataclass
class Day:
    """What a day cost: what prod wrote, and what each hop shipped."""

    number: int
    changed_bytes: int
    hops: list[int]


class Chain:
    """The three containers, of which only prod has writes that count."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.days: list[Day] = []
        self._chance = random.Random(7)

    async def begin(self) -> None:
        a, b, c = self.world.places
        (self.world.tree / "data").write_bytes(self._chance.randbytes(RECORDS * RECORD_BYTES))
        self.prod = await self.world.create("prod", a)
        self.staging = await self.world.copy(self.prod, b, "staging")
        self.dev = await self.world.copy(self.staging, c, "dev")

    async def day(self) -> None:
        """Writes everywhere, then both syncs, with the collectors in between."""
        number = len(self.days) + 1
        changed = await self._write(number)
        hops = []
        for copy in (self.staging, self.dev):
            result = await self.world.sync(copy)
            assert result["strategy"] in ("incremental", "content-diff")
            hops.append(int(str(result["bytes_logical"])))
            await self._log(copy, number)
            await self.collect(copy)
        self.days.append(Day(number, changed, hops))

    async def _write(self, number: int) -> int:
        """A new file and a record of a big one, whole records all, for zfs ships no less; how many
        bytes."""
        live = await self.world.live(self.prod)
        (live / f"new-{number}").write_bytes(self._chance.randbytes(NEW_BYTES))
        with open(live / "data", "r+b") as data:
            data.seek(self._chance.randrange(RECORDS) * RECORD_BYTES)
            data.write(self._chance.randbytes(RECORD_BYTES))
        return NEW_BYTES + RECORD_BYTES

    async def _log(self, copy: Container, number: int) -> None:
        live = await self.world.live(copy)
        (live / f"log-{number}").write_bytes(self._chance.randbytes(LOG_BYTES))

    async def contents(self, container: Container) -> dict[str, bytes]:
        """The files of prod, as a container has them."""
        live = await self.world.live(container)
        names = ["data", *(f"new-{day.number}" for day in self.days)]
        return {name: (live / name).read_bytes() for name in names}

    async def live_path(self) -> str:
        """The dataset of prod's live generation."""
        return self.world.path(await self.world.get(self.prod.id))

    async def collect(self, copy: Container) -> None:
        """On the copy's server and on its source's."""
        source = await self.world.get(copy.source_container_id or "")
        for server_id in (source.server_id, copy.server_id):
            await self.world.collector(self.world.place(server_id)).run(now())

    def table(self) -> str:
        """Every day's costs, for the message of a failure."""
        head = f"{'day':>4} {'changed':>10} {'a to b':>10} {'b to c':>10}"
        return "\n".join(
            [head]
            + [
                f"{day.number:>4} {day.changed_bytes:>10} " + " ".join(f"{n:>10}" for n in day.hops)
                for day in self.days
            ]
        )


async def test_the_second_hop_costs_what_prod_has_changed(world: World) -> None:
    chain = Chain(world)
    await chain.begin()
    for _ in range(DAYS):
        await chain.day()
    assert await chain.contents(chain.dev) == await chain.contents(chain.prod)
    for day in chain.days:
        assert NEW_BYTES <= max(day.hops) <= day.changed_bytes + SLACK_BYTES, chain.table()
    for place in world.places:
        await world.settle(place)
        assert await world.findings(place) == []


async def removed(chain: Chain, number: int) -> None:
    """Forgets a server as `hoodyd server remove` does, and lets the others collect."""
    world = chain.world
    gone = world.places.pop(number)
    async with world.db.write() as tx:
        await servers.beat(tx, gone.id, await gone.storage.capacity(), now() - timedelta(hours=1))
        await cli_accounts.remove_server(tx, gone.config, gone.id)
    for place in world.places:
        await world.settle(place)
        assert await world.findings(place) == []
        async with world.db.read() as tx:
            kept = await bases.held_by(tx, place.id)
        assert gone.id not in {base.peer for base in kept}


async def stored(world: World, number: int) -> tuple[int, int]:
    """How many datasets a server has, and how many snapshots."""
    forest = await world.forest(world.places[number])
    return len(forest.datasets), len(list(forest.snapshots()))


@pytest.fixture
async def chain(world: World) -> Chain:
    """Two days old."""
    made = Chain(world)
    await made.begin()
    await made.day()
    await made.day()
    return made


async def test_the_bases_of_a_server_that_is_removed_go(chain: Chain) -> None:
    """staging's server is lost: prod's keeps nothing for it, dev's nothing of its mirrors."""
    world, settled = chain.world, int(chain.world.here.config.storage.backend == "zfs")
    first, dev = await chain.contents(chain.prod), await chain.contents(chain.dev)
    await held_by_a_job(chain)
    await removed(chain, 1)
    assert await stored(world, 0) == (1, 0)
    datasets, snapshots = await stored(world, 1)
    assert (datasets, snapshots) in ((1, 0), (1, settled))  # what `written` compares dev with
    assert await chain.contents(chain.prod) == first
    assert await chain.contents(chain.dev) == dev
    assert await world.find(chain.staging.id) is None
    again = await world.copy(await world.get(chain.prod.id), world.there, "again")
    assert await chain.contents(again) == first


async def test_a_server_that_holds_sources_is_removed(chain: Chain) -> None:
    """prod's server is lost: the copy of prod stays as it is and feeds dev as before."""
    world = chain.world
    staging = await chain.contents(chain.staging)
    await removed(chain, 0)
    assert await chain.contents(chain.staging) == staging
    (await world.live(chain.staging) / "data").write_bytes(os.urandom(RECORD_BYTES))
    result = await world.sync(chain.dev)
    assert result["strategy"] in ("incremental", "content-diff")
    assert int(str(result["bytes_logical"])) <= RECORD_BYTES + SLACK_BYTES
    assert await chain.contents(chain.dev) == await chain.contents(chain.staging)


async def held_by_a_job(chain: Chain) -> None:
    """A sync of staging was in the middle of a transfer: what it holds on prod's server will be
    nobody's."""
    job = await chain.world.claim(await chain.world.begin_sync(chain.staging))
    entry = (await chain.world.forest(chain.world.here)).datasets[await chain.live_path()].head
    assert entry is not None
    async with chain.world.db.write() as tx:
        await holdings.add(tx, job.id, chain.world.here.id)
    await chain.world.here.storage.hold([entry.guid], hold_tag(job.id))
