"""A source's exporter needs no root: what README allows its user is enough, and all of it is
needed. What takes root is refused with words that say so."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from daemon.model import hold_tag, new_id
from daemon.store.database import Database
from daemon.store.schema import metadata
from tests.engine_world import World
from tests.openzfs.inside.unprivileged import (
    Unprivileged,
    as_user,
    documented,
    readable_project,
)
from tests.zfs_servers import full_step, increment
from transfer.errors import PermissionMissing
from transfer.model import Snapshot, Step
from transfer.peer.client import PeerSource
from transfer.storage.zfs_command import Zfs

pytestmark = pytest.mark.zfs


@pytest.fixture
def directory() -> Iterator[Path]:
    """One that another user can reach, which `tmp_path` is not."""
    with (
        tempfile.TemporaryDirectory(prefix="hoody-user-") as made,
        readable_project(Path(made, "project")),
    ):
        yield Path(made)


@pytest.fixture
async def server(directory: Path, zfs_pool: Callable[..., str]) -> AsyncIterator[Unprivileged]:
    url = f"sqlite:///{directory}/catalogue.db"
    db = Database(url)
    async with db.write() as tx:
        await tx.run_sync(metadata.create_all)
    world, root = World(db, url, directory), zfs_pool("here")
    await world.fill(zfs_roots={"here": root})
    made = await Unprivileged.of(world, directory, root)
    await made.allow(documented())
    yield made
    await db.close()


class Asks:
    """What a job asks of its source, each with a permission of its own."""

    def __init__(self, server: Unprivileged, peer: PeerSource) -> None:
        self._server = server
        self._peer = peer
        self._tag = hold_tag(server.job.id)

    async def write_and_snapshot(self) -> Snapshot:
        (await self._server.world.live(self._server.source) / new_id()).write_text("new")
        return await self.snapshot()

    async def snapshot(self) -> Snapshot:
        return await self._peer.snapshot(self._server.path, f"h-{new_id()}", self._tag)

    async def hold(self, snapshot: Snapshot) -> None:
        await self._peer.hold([snapshot.guid], self._tag)

    async def release(self, snapshot: Snapshot) -> None:
        await self._peer.release([snapshot.guid], self._tag)

    async def send(self, step: Step) -> int:
        async with contextlib.aclosing(self._peer.send(step)) as blocks:
            return sum([len(block) async for block in blocks])

    async def collect(self) -> None:
        """Takes an anchor, and has it and its bookmark destroyed as nothing needs them."""
        anchor = await self.write_and_snapshot()
        await self.release(anchor)
        await self._server.destroy(anchor)


async def test_what_readme_allows_is_enough(server: Unprivileged) -> None:
    async with server.exporter() as peer:
        asks = Asks(server, peer)
        assert await peer.traits() == await server.world.here.storage.traits()
        first = await asks.write_and_snapshot()
        # Nothing was written since: the new one is destroyed, the one before it held again.
        assert (await asks.snapshot()).guid == first.guid
        second = await asks.write_and_snapshot()
        await asks.hold(first)
        lineage = await peer.lineage([second.guid])
        assert {first.guid, second.guid} <= {one.guid for one in lineage.snapshots()}
        for step in (full_step(first), increment(first, second)):
            assert await peer.size(step) > 0
            assert await asks.send(step) > 0
        for snapshot in (first, second):
            await asks.release(snapshot)
        taken = {first.guid, second.guid}
        left = (await peer.lineage([second.guid])).snapshots()
        assert [one.holds for one in left if one.guid in taken] == [0, 0]
        await asks.collect()


async def test_each_of_them_is_needed(server: Unprivileged) -> None:
    async with server.exporter() as peer:
        asks = Asks(server, peer)
        first = await asks.write_and_snapshot()
        needs: dict[str, Callable[[], Awaitable[object]]] = {
            "bookmark": asks.write_and_snapshot,
            "destroy": asks.snapshot,
            "hold": lambda: asks.hold(first),
            "mount": asks.snapshot,
            "release": lambda: asks.release(first),
            "send": lambda: asks.send(full_step(first)),
            "snapshot": asks.write_and_snapshot,
            "userprop": asks.collect,
        }
        assert sorted(needs) == sorted(documented())
        for permission, ask in needs.items():
            await server.allow([permission], "unallow")
            with pytest.raises(PermissionMissing) as refused:
                await ask()
            assert "permission denied" in refused.value.message, permission
            await server.allow([permission])
            await ask()


async def test_what_takes_root(server: Unprivileged) -> None:
    """Mounting, whatever is allowed; and so, what opening a storage for the first time tries."""
    name = f"{server.root}/{server.path}"
    await server.world.here.storage.unmount(server.path)
    with pytest.raises(PermissionMissing):
        await as_user("zfs", "mount", name)
    await Zfs(server.root).do("inherit", "hoody:traits", server.root)
    process = await server.start()
    _, said = await process.communicate()
    assert process.returncode == 2
    assert said.decode().strip() == (
        f"hoodyd: {server.root} must be opened once as root, by this version of ZFS"
    )
