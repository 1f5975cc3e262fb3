"""Orphans: the copies of a source that is deleted live on, and nothing is kept for the source."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.acceptance.album import Album, inheritable, names, write_file
from tests.acceptance.api import refuses
from tests.acceptance.cluster import Cluster
from tests.acceptance.space import MIB, doctors_are_content, falls_below, gone, used_bytes

HEAVY_BYTES = 48 * MIB
SLACK_BYTES = 3 * MIB

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
async def album(cluster: Cluster) -> AsyncIterator[Album]:
    async with cluster.api() as api:
        yield Album(cluster, api)


async def _orphaned(album: Album, copy: str) -> None:
    container = await album.api.container(copy)
    assert (container["status"], container["sync_state"]) == ("running", "orphaned")
    with refuses(404, "SOURCE_CONTAINER_NOT_FOUND"):
        await album.api.sync(copy)


async def test_copies_live_on_with_their_history(cluster: Cluster, album: Album) -> None:
    """On both servers, those on a branch too; and they can be copied on as any other."""
    api, (here, there) = album.api, cluster.daemons
    source = await album.source("lives-on")
    first, *_ = [await album.snapshot(source) for _ in range(2)]
    await api.restore(source, first["name"])
    await album.snapshot(source)
    copies = [(await api.copy(source, daemon.server_id))[0] for daemon in (here, there)]
    own = [await album.snapshot(copy) for copy in copies]
    lists = [inheritable(await api.snapshots(copy)) for copy in copies]
    trees_before = [await album.walk(copy) for copy in copies]
    last = await album.snapshot(source)

    await api.delete(source)
    await gone(here, last["guid"])
    for number, copy in enumerate(copies):
        await _orphaned(album, copy)
        assert await album.walk(copy) == trees_before[number]
        assert inheritable(await api.snapshots(copy)) == lists[number]

    near, far = copies
    for copy, server_id in ((near, there.server_id), (far, here.server_id)):
        onward, _ = await api.copy(copy, server_id)
        await album.assert_same(copy, onward)
        assert inheritable(await api.snapshots(onward)) == inheritable(await api.snapshots(copy))
        await album.assert_restores(copy)
        await album.assert_copies(onward)
        assert names(await api.snapshots(copy))[0] == own[copies.index(copy)]["name"]


async def test_the_middle_of_a_chain(cluster: Cluster, album: Album) -> None:
    """Its copy is an orphan, its own source goes on with others."""
    api, (here, there) = album.api, cluster.daemons
    first = await album.source("middle")
    await album.snapshot(first)
    middle, _ = await api.copy(first, there.server_id)
    await album.snapshot(middle)
    last, _ = await api.copy(middle, here.server_id)
    other, _ = await api.copy(first, there.server_id)

    await api.delete(middle)
    await _orphaned(album, last)
    await album.assert_restores(last)
    await album.snapshot(first)
    await api.sync(other)
    await album.assert_same(first, other)
    await album.assert_restores(other)


async def _used(cluster: Cluster) -> list[int]:
    return [await asyncio.to_thread(used_bytes, cluster, number) for number in (0, 1)]


async def test_space_that_only_the_source_used(cluster: Cluster, album: Album) -> None:
    """In its filesystem, in its snapshots, and in what a server keeps to bring its copies up to
    date: all of it comes back when it is deleted."""
    api, there = album.api, cluster.daemons[1]
    source = await album.source("space")
    copies = [await api.copy(source), await api.copy(source, there.server_id)]
    before = await _used(cluster)
    for name in ("snapped", "live"):
        path = await write_file(api, source, name, os.urandom(HEAVY_BYTES))
        await api.snapshot(source)
        path.unlink()
    await write_file(api, source, "live", os.urandom(HEAVY_BYTES))
    passing, _ = await api.copy(source, there.server_id)
    during = await _used(cluster)
    assert during[0] > before[0] + 3 * HEAVY_BYTES
    assert during[1] > before[1] + 3 * HEAVY_BYTES

    await api.delete(source)
    await api.delete(passing)
    for number in (0, 1):
        await falls_below(cluster, number, before[number] + SLACK_BYTES)
    for copy, _job in copies:
        await _orphaned(album, copy)


async def test_an_orphan_gets_the_space_of_what_it_deletes(cluster: Cluster, album: Album) -> None:
    """Nothing of its source's pins what it no longer has, whether it was restored meanwhile (the
    near one) or not (the far one)."""
    api, there = album.api, cluster.daemons[1]
    source = await album.source("gets")
    near, _ = await api.copy(source)
    far, _ = await api.copy(source, there.server_id)
    before = await _used(cluster)
    await write_file(api, source, "snapped", os.urandom(HEAVY_BYTES))
    inherited = await album.snapshot(source)
    await write_file(api, source, "live", os.urandom(HEAVY_BYTES))
    for copy in (near, far):
        await api.sync(copy)

    await api.delete(source)
    await album.assert_restores(near)
    for copy, own in ((near, ["snapped"]), (far, ["snapped", "live"])):
        await api.delete_snapshot(copy, inherited["name"])
        for name in own:
            Path(await api.rootfs(copy), "srv", name).unlink()
    for number in (0, 1):
        await falls_below(cluster, number, before[number] + SLACK_BYTES)
    for copy in (near, far):
        await _orphaned(album, copy)


async def test_the_doctors_are_content(cluster: Cluster) -> None:
    """After all this."""
    await doctors_are_content(cluster)
