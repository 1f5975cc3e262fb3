"""History: a copy is a whole container, with all snapshots that its source lists.

Trees are compared whole: every snapshot is held against a walk of the tree that it was taken of.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.acceptance.album import Album, inheritable, names
from tests.acceptance.api import refuses
from tests.acceptance.cluster import Cluster, MakeCluster
from tests.acceptance.space import doctors_are_content, gone

TRIES = 20

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def cluster(make_cluster: MakeCluster) -> Cluster:
    """Three servers: a, b and c."""
    return make_cluster(3, {"transfer": {"max_concurrent": 4}})


@pytest.fixture
async def album(cluster: Cluster) -> AsyncIterator[Album]:
    async with cluster.api() as api:
        yield Album(cluster, api)


async def _whole(album: Album, source: str, copy: str) -> None:
    """The copy lists what the source lists, and can restore each of it."""
    listed = await album.api.snapshots(copy)
    assert inheritable(listed) == inheritable(await album.api.snapshots(source))
    assert all(entry["inherited"] for entry in listed)
    await album.assert_restores(copy)


async def test_a_copy_lists_and_has_all_snapshots(cluster: Cluster, album: Album) -> None:
    """Also those on generations that a restore or a sync has left behind, on either server."""
    api = album.api
    upstream = await album.source("lists-all")
    await album.snapshot(upstream, alias="first", expiry=7)
    source, _ = await api.copy(upstream)
    own = await album.snapshot(source, alias="own")
    await album.snapshot(upstream)
    await api.sync(source)
    await album.snapshot(source)
    await api.restore(source, own["name"])
    await album.snapshot(source, expiry=0.5)
    assert len(await api.snapshots(source)) == 5

    for daemon in cluster.daemons[:2]:
        copy, _ = await api.copy(source, daemon.server_id)
        await album.assert_same(source, copy)
        await album.assert_copies(copy)
        await _whole(album, source, copy)


async def test_source_snapshot_copies_exactly_that_state(cluster: Cluster, album: Album) -> None:
    """By its name or its alias; the snapshots that are not newer come too, itself included."""
    api = album.api
    source = await album.source("exactly")
    entries = [await album.snapshot(source, alias=f"day {day}") for day in range(3)]
    wanted = entries[1]
    for daemon, called in zip(cluster.daemons[:2], ("name", "alias"), strict=True):
        copy, _ = await api.copy(source, daemon.server_id, source_snapshot=wanted[called])
        assert (await api.container(copy))["source_snapshot"] == wanted["name"]
        await album.assert_shows(copy, wanted)
        assert names(await api.snapshots(copy)) == names(entries[1::-1])
        await api.sync(copy)
        await album.assert_same(source, copy)
        await _whole(album, source, copy)
    with refuses(404, "RESOURCE_NOT_FOUND"):
        await api.copy(source, source_snapshot="day 3")


async def test_a_sync_brings_new_snapshots(cluster: Cluster, album: Album) -> None:
    """Also where the filesystem itself is what the copy took last."""
    api = album.api
    source = await album.source("sync-brings")
    copies = [(await api.copy(source, daemon.server_id))[0] for daemon in cluster.daemons[:2]]
    for _ in range(2):
        await album.snapshot(source)
    first, *_ = reversed(await api.snapshots(source))
    await api.restore(source, first["name"])
    await album.snapshot(source)
    for copy in copies:
        await api.sync(copy)
        await album.assert_same(source, copy)

    await album.snapshot_as_it_is(source, alias="nothing new")
    for copy in copies:
        job = await api.sync(copy)
        assert job["result"]["strategy"] == "unchanged"
        await _whole(album, source, copy)


async def test_a_name_that_clashes_gets_a_number(cluster: Cluster, album: Album) -> None:
    """Two containers take snapshots in one second; the one that comes by sync is renamed."""
    api = album.api
    source = await album.source("clash")
    copy, _ = await api.copy(source, cluster.daemons[1].server_id)
    for _ in range(TRIES):
        theirs, own = await asyncio.gather(album.snapshot(source), album.snapshot(copy))
        if theirs["name"] == own["name"]:
            break
    else:
        pytest.fail("no two in one second")
    await api.sync(copy)
    by_guid = {entry["guid"]: entry for entry in await api.snapshots(copy)}
    assert by_guid[own["guid"]]["name"] == own["name"]
    assert by_guid[theirs["guid"]]["name"] == f"{own['name']}-2"
    await album.assert_restores(copy)


async def test_own_snapshots_survive_sync_and_restore(cluster: Cluster, album: Album) -> None:
    """Those that were taken on the copy; and to restore an old one loses no newer one."""
    api = album.api
    source = await album.source("survive")
    old = await album.snapshot(source)
    for daemon in cluster.daemons[:2]:
        copy, _ = await api.copy(source, daemon.server_id)
        before = await album.snapshot(copy)
        await album.write(source)
        await api.sync(copy)
        between = await album.snapshot(copy)
        await api.restore(copy, old["name"])
        after = await album.snapshot(copy)
        await album.write(source)
        await api.sync(copy)
        await album.assert_same(source, copy)

        listed = await api.snapshots(copy)
        assert names(listed) == names([after, between, before, old])
        assert [entry["inherited"] for entry in listed] == [False, False, False, True]
        await album.assert_restores(copy)
        assert names(await api.snapshots(source)) == [old["name"]]


async def test_each_container_deletes_for_itself(cluster: Cluster, album: Album) -> None:
    """What another container inherited stays whole there. Each time the collector has been
    there: a snapshot that nobody else lists was deleted after it, and is gone."""
    api, (here, there, _) = album.api, cluster.daemons
    source = await album.source("for-itself")
    entries = [await album.snapshot(source) for _ in range(4)]
    near, _ = await api.copy(source)
    far, _ = await api.copy(source, there.server_id)

    async def delete(container: str, at: int) -> None:
        await api.delete_snapshot(container, entries[at]["name"])
        await album.write(container)
        mark = await album.snapshot(container)
        await album.write(container)
        await api.delete_snapshot(container, mark["name"])
        await gone(there if container == far else here, mark["guid"])

    await delete(source, 0)
    await delete(near, 1)
    await delete(far, 2)
    for container, deleted in ((source, 0), (near, 1), (far, 2)):
        left = names([entry for entry in entries if entry is not entries[deleted]])
        assert names(await api.snapshots(container)) == left[::-1]
        await album.assert_restores(container)


async def test_what_the_copy_deleted_does_not_come_back(cluster: Cluster, album: Album) -> None:
    """By any sync; and what the source deleted stays on the copy."""
    api = album.api
    source = await album.source("stays-away")
    first, second, third = [await album.snapshot(source) for _ in range(3)]
    copies = [(await api.copy(source, daemon.server_id))[0] for daemon in cluster.daemons[:2]]
    for copy in copies:
        await api.delete_snapshot(copy, second["name"])
    await api.delete_snapshot(source, first["name"])
    fourth = await album.snapshot(source)
    for _ in range(2):
        await album.write(source)
        for copy in copies:
            await api.sync(copy)
            assert names(await api.snapshots(copy)) == names([fourth, third, first])
    for copy in copies:
        await album.assert_restores(copy)


async def test_copies_of_copies_of_copies(cluster: Cluster, album: Album) -> None:
    """On three servers, and a last one back on the first; each sync follows its own source."""
    api = album.api
    chain = [await album.source("chain")]
    await album.snapshot(chain[0])
    for number in (1, 2, 0):
        copy, _ = await api.copy(chain[-1], cluster.daemons[number].server_id)
        await album.snapshot(copy)
        chain.append(copy)
    assert [len(await api.snapshots(container)) for container in chain] == [1, 2, 3, 4]

    async def lists_fresh(container: str) -> bool:
        return fresh["guid"] in {entry["guid"] for entry in await api.snapshots(container)}

    fresh = await album.snapshot(chain[0])
    for links, arrives in (((3, 2), False), ((1, 2, 3), True)):
        for link in links:
            await api.sync(chain[link])
            await album.assert_same(chain[link - 1], chain[link])
            assert await lists_fresh(chain[link]) == arrives
    assert [len(await api.snapshots(container)) for container in chain] == [2, 3, 4, 5]
    await album.assert_same(chain[0], chain[3])
    await album.assert_restores(chain[3])


async def test_a_forest_is_copied_whole(cluster: Cluster, album: Album) -> None:
    """u1, u2, u3, restore u1, u4: u2 and u3 lie on a branch."""
    api = album.api
    source = await album.source("forest")
    first, *_ = [await album.snapshot(source) for _ in range(3)]
    await api.restore(source, first["name"])
    await album.snapshot(source)
    assert len(await api.snapshots(source)) == 4

    far, _ = await api.copy(source, cluster.daemons[1].server_id)
    farther, _ = await api.copy(far, cluster.daemons[2].server_id)
    await _whole(album, source, far)
    await album.assert_copies(farther)
    await _whole(album, source, farther)


async def test_the_doctors_are_content(cluster: Cluster) -> None:
    """After all this."""
    await doctors_are_content(cluster)
