"""Containers that begin as an image: on its server, and on others, to which it comes once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from daemon.actions import ACTIONS
from daemon.actions.create import abandon
from daemon.errors import JobError
from daemon.model import JobType, Status
from daemon.store import holdings
from daemon.store.database import Database
from tests.contract.engine.depot import Depot
from tests.engine_world import World
from tests.mortal import Fuse, attempt, clean
from transfer.errors import SnapshotMissing

KINDS = [pytest.param("zfs", marks=pytest.mark.zfs), "dir"]
IMAGE_BYTES = 4 << 20
OWN_BYTES = 256 << 10
KILLS_MAX = 100


@pytest.fixture(params=KINDS)
async def world(request: pytest.FixtureRequest, db: Database, url: str, tmp_path: Path) -> World:
    """Two servers of one kind."""
    names, roots = ("here", "there"), {}
    if request.param == "zfs":
        make: Callable[[str], str] = request.getfixturevalue("zfs_pool")
        roots = {name: make(name) for name in names}
    made = World(db, url, tmp_path)
    await made.fill(names, roots)
    (made.tree / "big").write_bytes(os.urandom(IMAGE_BYTES))
    return made


@pytest.fixture
async def depot(world: World) -> Depot:
    return await Depot.of(world)


async def test_on_its_own_server_it_is_cloned(world: World, depot: Depot) -> None:
    one, result = await depot.create(world.here)
    other, _ = await depot.create(world.here)
    assert (one.status, result["strategy"]) == (Status.RUNNING, "clone")
    assert result["bytes_logical"] == result["bytes_wire"] == 0
    await depot.assert_runs([one, other])
    forest = await world.forest(world.here)
    paths = {depot.path, world.path(one), world.path(other)}
    assert forest.datasets.keys() == paths
    assert {forest.datasets[world.path(c)].origin for c in (one, other)} == {depot.guid}
    (await world.live(one) / "file").write_text("mine")
    assert await depot.text(other) == "first"
    await clean(world)
    assert set(await world.paths(world.here)) == paths


async def test_it_comes_to_another_server_once(world: World, depot: Depot) -> None:
    one, result = await depot.create(world.there)
    assert result["strategy"] == "full"
    assert int(str(result["bytes_logical"])) >= IMAGE_BYTES
    async with world.db.read() as tx:  # before the collector can have seen to it
        assert [await holdings.of_server(tx, place.id) for place in world.places] == [[], []]
    for place in world.places:
        assert not [one for one in (await world.forest(place)).snapshots() if one.holds]
    (mirror,) = await depot.mirrors(world.there)
    other, again = await depot.create(world.there)
    assert (again["strategy"], again["bytes_logical"], again["steps"]) == ("clone", 0, [])
    await depot.assert_runs([one, other])
    await clean(world)
    assert await depot.mirrors(world.there) == [mirror]
    forest = await world.forest(world.there)
    assert {forest.datasets[world.path(c)].origin for c in (one, other)} == {depot.guid}


async def test_what_is_here_needs_no_other_server(world: World, depot: Depot) -> None:
    await depot.create(world.there)
    made, job = await depot.begin(world.there)

    def away(_storage: object) -> Any:
        raise AssertionError("the image's server was asked")

    claimed = await world.claim(job)
    await ACTIONS[JobType.CREATE].run(world.context(claimed, reach=away))
    await world.end(claimed)
    await depot.assert_runs([made])


async def test_many_at_once_ship_it_once(world: World, depot: Depot) -> None:
    """Ten; on zfs four, which are more commands than those of ten on dir."""
    count = 4 if world.here.server.backend == "zfs" else 10
    results = await depot.create_at_once(world.there, count)
    assert len(results) == count
    moved = [int(str(result["bytes_logical"])) for result in results]
    assert len([count for count in moved if count]) == 1
    assert IMAGE_BYTES <= sum(moved) < 2 * IMAGE_BYTES
    assert len(await depot.mirrors(world.there)) == 1
    await clean(world)


async def test_a_second_one_is_copied_there_by_its_difference(world: World, depot: Depot) -> None:
    """The image comes with the first copy, and is what the second one stands on."""
    one, _ = await depot.create(world.here)
    other, _ = await depot.create(world.here)
    columns = {"container_image_id": depot.image.id}
    first, job = await world.begin_copy(one, **columns)
    before = await world.carry_out(job)
    assert before is not None
    assert int(str(before["bytes_logical"])) >= IMAGE_BYTES
    for place in (world.here, world.there):
        await world.settle(place)
    (await world.live(other) / "own").write_bytes(os.urandom(OWN_BYTES))
    second, job = await world.begin_copy(other, name="second", **columns)
    after = await world.carry_out(job)
    assert after is not None
    assert OWN_BYTES <= int(str(after["bytes_logical"])) < IMAGE_BYTES // 4
    await depot.assert_runs([first, second])
    assert len((await world.live(second) / "own").read_bytes()) == OWN_BYTES
    back = await world.copy(second, world.here, "back")
    assert len((await world.live(back) / "own").read_bytes()) == OWN_BYTES
    await clean(world)


async def test_its_containers_outlive_it(world: World, depot: Depot) -> None:
    near, _ = await depot.create(world.here)
    twin, _ = await depot.create(world.here)
    far, _ = await depot.create(world.there)
    await depot.remove()
    await clean(world)
    assert depot.path not in (await world.forest(world.here)).datasets
    assert depot.path not in await world.paths(world.here)
    # What two stand on stays with one of them, where clones pin; what one stood on is its own.
    pins = (await world.here.storage.traits()).clones_pin
    assert (await depot.holder(world.here) is not None) is pins
    assert await depot.holder(world.there) is None
    await depot.assert_runs([near, twin, far])

    copy = await world.copy(near)
    (await world.live(near) / "file").write_text("second")
    await world.sync(copy)
    back = await world.copy(far, world.here, "back")
    await depot.assert_runs([near, copy], "second")
    await depot.assert_runs([twin, far, back])
    await clean(world)
    for one in (back, copy, near, twin, far):
        await world.remove(await world.get(one.id))
        await clean(world)
    assert [await world.paths(place) for place in (world.here, world.there)] == [[], []]


async def test_what_was_removed_meanwhile_fails_its_jobs(world: World, depot: Depot) -> None:
    """Also one whose server has it still; the image's storage is kept for it until then."""
    begun = [await depot.begin(place) for place in (world.here, world.there)]
    await depot.remove()
    await world.settle(world.here)
    assert await depot.holder(world.here) is not None
    for made, job in begun:
        claimed = await world.claim(job)
        with pytest.raises(JobError, match="removed") as failed:
            await ACTIONS[JobType.CREATE].run(world.context(claimed))
        assert failed.value.code == "IMAGE_NOT_FOUND"
        async with world.db.write() as tx:
            await abandon(tx, claimed, "IMAGE_NOT_FOUND")
        await world.end(claimed)
        assert (await world.get(made.id)).status is Status.ERROR
    await clean(world)
    assert await world.paths(world.here) == []


async def test_a_lost_snapshot_is_found_by_job_and_doctor(world: World, depot: Depot) -> None:
    await world.here.storage.destroy_snapshot(depot.path, depot.guid)
    _, job = await depot.begin(world.here)
    claimed = await world.claim(job)
    with pytest.raises(SnapshotMissing):
        await ACTIONS[JobType.CREATE].run(world.context(claimed))
    (finding,) = await world.findings(world.here)
    assert (finding.code, finding.subject) == ("IMAGE_MISSING", depot.image.id)


@pytest.mark.parametrize("where", ["here", "there"])
async def test_a_create_killed_at_any_call(world: World, where: str) -> None:
    """Also in the middle of the shipping; of another image each time, so that there is some."""
    place = getattr(world, where)
    for number in range(1, KILLS_MAX):
        depot = await Depot.of(world)
        made, job = await depot.begin(place)
        fuse = Fuse(number)
        if not await attempt(world, job, fuse):
            assert await attempt(world, job, fuse)
        await depot.assert_runs([made])
        assert len(await depot.mirrors(world.there)) == (1 if where == "there" else 0)
        await depot.remove()
        await world.remove(await world.get(made.id))
        if not fuse.blown:
            break
    else:
        pytest.fail("an attempt has more calls than expected")
    assert number > 5
    await clean(world)
    assert [await world.paths(one) for one in (world.here, world.there)] == [[], []]
