"""What the storages hold once jobs have ended and the collector has been there: what DESIGN.md 5
says, and no more. Every test begins with empty storages,
and deletes what it has made."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from tests.acceptance import trees
from tests.acceptance.api import Api, Refused
from tests.acceptance.cluster import Cluster, Daemon, MakeCluster
from tests.acceptance.space import until, used_bytes
from transfer.storage import open_storage
from transfer.storage.base import Storage

SYNCS = 10
DAY_BYTES = 200_000
MESSAGE_BYTES = 64 << 10  # what a job that ships nothing may cost on the wire
BIG_BYTES = 64 << 20
SLACK_BYTES = 4 << 20
COPIES = 5
Stored = dict[str, list[int]]


@dataclass
class Shelves:
    """The storages of a cluster, seen from outside."""

    cluster: Cluster
    storages: list[Storage]
    names: dict[str, str]

    async def stored(self, number: int) -> Stored:
        """How many snapshots each dataset of a server has: `mirror` and, by the container's
        name, generations."""
        found: Stored = {}
        for dataset in await self.storages[number].forest():
            kind, container_id = dataset.path.split("/")[:2]
            role = "mirror" if kind == "mirrors" else self.names.get(container_id, container_id)
            found.setdefault(role, []).append(len(dataset.snapshots))
        return {role: sorted(counts) for role, counts in sorted(found.items())}

    async def settles(self, *wanted: Stored) -> None:
        """Waits until every server stores exactly this, and asks `hoodyd doctor`."""
        await self.comes_to(*wanted)
        for daemon in self.cluster.daemons:
            await asyncio.to_thread(daemon.command, "doctor")

    async def comes_to(self, *wanted: Stored) -> None:
        """Waits until every server stores exactly this."""

        async def seen() -> list[Stored]:
            return [await self.stored(number) for number in range(len(wanted))]

        await until(seen, lambda stored: stored == list(wanted))

    async def source(self, api: Api, tree: str) -> str:
        """A container on the first server of which nothing else is stored. What it was made from
        is needed by nobody, but a copy that is made before it goes stands on it, and keeps it."""
        source = await api.create(self.cluster.tree(tree))
        self.names[source] = "source"
        await self.comes_to({"source": [0]}, {})
        return source

    async def is_empty(self) -> None:
        """Waits until nothing is left but the folders, in the storages and where they mount."""
        await self.settles({}, {})
        for daemon in self.cluster.daemons:
            assert _names(self.cluster, daemon) == ["containers", "images", "mirrors"]
            mount_root = _mount_root(self.cluster, daemon)
            left = [name for name in os.listdir(mount_root) if not name.startswith(".")]
            assert left == [], daemon.name


@pytest.fixture(scope="module")
def busy_cluster(make_cluster: MakeCluster) -> Cluster:
    return make_cluster(2, {"transfer": {"max_concurrent": 4}})


@pytest.fixture
async def shelves(busy_cluster: Cluster, tmp_path: Path) -> AsyncIterator[Shelves]:
    """Afterwards every container is deleted, and nothing may be left."""
    storages = []
    for daemon in busy_cluster.daemons:
        (tmp_path / daemon.name).mkdir()
        places = (
            daemon.storage_root,
            _mount_root(busy_cluster, daemon),
            str(tmp_path / daemon.name),
        )
        storages.append(await open_storage(busy_cluster.backend, *places))
    shelves = Shelves(busy_cluster, storages, {})
    yield shelves
    async with busy_cluster.api() as api:
        for container in (await api.call("GET", "/containers"))["containers"]:
            await api.delete(container["id"])
    await shelves.is_empty()


async def test_ten_syncs(shelves: Shelves) -> None:
    """A source on a with a copy near (on a) and a copy far (on b).

    On a: the source's generation with the last anchor, which the near copy is a clone of and a
    base of both servers; the near copy's generation. On b: a mirror of the source's generation
    with the same anchor; the far copy's generation. What these were made from is gone: on dir
    nobody needs it, on zfs they were promoted over it. On zfs each copy has one snapshot, of its
    state right after its switch, which `written` compares with.
    """
    cluster, settled = shelves.cluster, int(shelves.cluster.zfs)
    trees.make(cluster.tree("ten"), files=20)
    async with cluster.api() as api:
        source, near, far = await _family(shelves, api, "ten")
        for number in range(SYNCS):
            await _write(api, source, f"day{number}", DAY_BYTES)
            trees.change(await api.rootfs(source), seed=number)
            await asyncio.gather(api.sync(near), api.sync(far))
        await shelves.settles({"source": [1], "near": [settled]}, {"mirror": [1], "far": [settled]})
        await _same(cluster, api, source, near, far)


async def test_space_that_was_freed_is_free(shelves: Shelves) -> None:
    cluster = shelves.cluster
    trees.make(cluster.tree("space"), files=20)
    async with cluster.api() as api:
        source, near, far = await _family(shelves, api, "space")
        before = [used_bytes(cluster, number) for number in (0, 1)]
        for exists in (True, False):
            if exists:
                await _write(api, source, "big", BIG_BYTES)
            else:
                Path(await api.rootfs(source), "srv/big").unlink()
            await asyncio.gather(api.sync(near), api.sync(far))
            for number in (0, 1):
                least = BIG_BYTES if exists else 0
                most = before[number] + (4 * BIG_BYTES if exists else SLACK_BYTES)

                async def used(number: int = number) -> int:
                    return used_bytes(cluster, number)

                def fits(found: int, least: int = least, most: int = most) -> bool:
                    return least <= found <= most

                await until(used, fits)


async def test_the_copies_outlive_the_source(shelves: Shelves) -> None:
    """And stand on nothing but themselves."""
    cluster = shelves.cluster
    trees.make(cluster.tree("orphans"), files=20)
    async with cluster.api() as api:
        source, near, far = await _family(shelves, api, "orphans")
        await _write(api, source, "more", DAY_BYTES)
        await asyncio.gather(api.sync(near), api.sync(far))
        kept = trees.walk(await api.rootfs(source))
        await api.delete(source)

        await shelves.settles({"near": [0]}, {"far": [0]})
        for copy in (near, far):
            container = await api.container(copy)
            assert (container["status"], container["sync_state"]) == ("running", "orphaned")
            assert not trees.differences(kept, trees.walk(await api.rootfs(copy)))
            with pytest.raises(Refused) as refused:
                await api.sync(copy)
            assert (refused.value.status, refused.value.code) == (
                404,
                "SOURCE_CONTAINER_NOT_FOUND",
            )


async def test_syncs_asked_for_together(shelves: Shelves) -> None:
    """They share one anchor, and the increment travels once."""
    cluster, settled = shelves.cluster, int(shelves.cluster.zfs)
    trees.make(cluster.tree("together"), files=20)
    async with cluster.api() as api:
        source = await shelves.source(api, "together")
        server = cluster.daemons[1].server_id
        copies = [(await api.copy(source, server))[0] for _ in range(COPIES)]
        shelves.names |= dict.fromkeys(copies, "copy")
        await _write(api, source, "more", 40 * DAY_BYTES)

        jobs = await asyncio.gather(*(api.sync(copy) for copy in copies))
        wire_bytes = sum(job["result"]["bytes_wire"] for job in jobs)
        assert 40 * DAY_BYTES <= wire_bytes <= 40 * DAY_BYTES + COPIES * MESSAGE_BYTES
        assert len({(await api.storage(copy))["origin_guid"] for copy in copies}) == 1
        await shelves.settles({"source": [1]}, {"mirror": [1], "copy": [settled] * COPIES})
        await _same(cluster, api, source, *copies)


async def _family(shelves: Shelves, api: Api, tree: str) -> tuple[str, str, str]:
    """A source on server a, a copy on a, and a copy on b."""
    source = await shelves.source(api, tree)
    near, _ = await api.copy(source)
    far, _ = await api.copy(source, shelves.cluster.daemons[1].server_id)
    shelves.names |= {near: "near", far: "far"}
    return source, near, far


async def _write(api: Api, container: str, name: str, count: int) -> None:
    path = Path(await api.rootfs(container), "srv", name)
    path.write_bytes(Random(name).randbytes(count))


async def _same(cluster: Cluster, api: Api, source: str, *copies: str) -> None:
    for copy in copies:
        trees.assert_equal(await api.rootfs(source), await api.rootfs(copy), zfs=cluster.zfs)


def _mount_root(cluster: Cluster, daemon: Daemon) -> str:
    return str(cluster.directory / f"mounts-{daemon.name}")


def _names(cluster: Cluster, daemon: Daemon) -> list[str]:
    """What lies right under a storage's root; and, on zfs, nothing lies deeper."""
    root = daemon.storage_root
    if not cluster.zfs:
        return sorted(name for name in os.listdir(root) if not name.startswith("."))
    argv = ["zfs", "list", "-H", "-r", "-t", "all", "-o", "name", root]
    done = subprocess.run(argv, capture_output=True, timeout=60, check=True, text=True)
    return sorted(line.removeprefix(root + "/") for line in done.stdout.split() if line != root)
