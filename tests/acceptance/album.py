"""An album of trees: what a snapshot was taken of, held against what containers show later."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from tests.acceptance import trees
from tests.acceptance.api import Api, Json
from tests.acceptance.cluster import Cluster
from transfer.model import Guid

Walk = dict[bytes, trees.Entry]


@dataclass
class Album:
    """One page for each snapshot that was taken through it: the whole tree, as it was then."""

    cluster: Cluster
    api: Api
    pages: dict[Guid, Walk] = field(default_factory=dict)
    days: int = 0

    async def source(self, name: str, *, number: int = 0) -> str:
        """A container made of a small tree with all kinds of things in it, on the server with
        this number."""
        tree = self.cluster.tree(name)
        trees.make(tree, files=20, big_bytes=100_000, sparse_bytes=1 << 20)
        server_id = self.cluster.daemons[number].server_id
        return await self.api.create(tree, server_id=server_id)

    async def write(self, container_id: str) -> None:
        """A day of changes, other than any before."""
        self.days += 1
        await asyncio.to_thread(trees.change, await self.api.rootfs(container_id), self.days)

    async def snapshot(self, container_id: str, **fields: object) -> Json:
        """Changes the container's tree, takes a snapshot and makes its page; the entry."""
        await self.write(container_id)
        return await self.snapshot_as_it_is(container_id, **fields)

    async def snapshot_as_it_is(self, container_id: str, **fields: object) -> Json:
        """Takes a snapshot and makes its page; the entry."""
        entry = await self.api.snapshot(container_id, **fields)
        self.pages[entry["guid"]] = await self.walk(container_id)
        return entry

    async def walk(self, container_id: str) -> Walk:
        """The container's live tree."""
        return await asyncio.to_thread(trees.walk, await self.api.rootfs(container_id))

    async def assert_shows(self, container_id: str, entry: Json) -> None:
        """The container's live tree is what this snapshot was taken of."""
        found = trees.differences(self.pages[entry["guid"]], await self.walk(container_id))
        assert not found, f"{entry['name']}: " + "\n".join(found)

    async def assert_same(self, container_id: str, other_id: str) -> None:
        """Two containers' live trees are the same."""
        here, there = await self.api.rootfs(container_id), await self.api.rootfs(other_id)
        await asyncio.to_thread(trees.assert_equal, here, there, zfs=self.cluster.zfs)

    async def assert_restores(self, container_id: str) -> None:
        """Every snapshot that the container lists can be restored there, the oldest last, and
        none is lost by it."""
        listed = await self.api.snapshots(container_id)
        for entry in listed:
            await self.api.restore(container_id, entry["name"])
            await self.assert_shows(container_id, entry)
        assert names(await self.api.snapshots(container_id)) == names(listed)

    async def assert_copies(self, container_id: str, server_id: str | None = None) -> None:
        """Every snapshot that the container lists can be copied from."""
        listed = await self.api.snapshots(container_id)
        started = [
            await self.api.start_copy(container_id, server_id, source_snapshot=entry["name"])
            for entry in listed
        ]
        for entry, copy in zip(listed, started, strict=True):
            await self.api.done(copy.job_id)
            await self.assert_shows(copy.container_id, entry)


def names(listed: list[Json]) -> list[str]:
    """The names of a list of snapshots, in its order."""
    return [entry["name"] for entry in listed]


def inheritable(listed: list[Json]) -> list[Json]:
    """What a copy's list has in common with its source's: all but what the copy's server knows
    of its own, and the times of use, which go their own ways."""
    own = ("inherited", "unique_bytes", "size", "last_used_at")
    return [{key: entry[key] for key in entry if key not in own} for entry in listed]


async def write_file(api: Api, container_id: str, name: str, content: bytes) -> Path:
    """A file of the container's tree, made or replaced; its path."""
    path = Path(await api.rootfs(container_id), "srv", name)
    await asyncio.to_thread(path.write_bytes, content)
    return path
