"""Does each thing twice, to containers on real servers and to the model, and compares the two."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from daemon.errors import JobError
from daemon.model import Container, Job, UserSnapshot, generation_path, new_id, now
from daemon.states import Move
from daemon.store import containers, user_snapshots
from tests.containers_model import Edit, Model, Tree, carry_out, read
from tests.engine_world import Place, World
from tests.mortal import Fuse, Killed, MortalDatabase, MortalStorage, attempt
from transfer.model import Guid


@dataclass(frozen=True)
class Kill:
    """The first attempt at a step ends after this many calls. Before the second one the snapshot
    that it reads may be deleted, and all servers may collect."""

    call: int
    then_delete: bool
    then_collect: bool


class Twin:
    """The world and the model; containers go by the model's names."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.model = Model()
        self._ids: dict[str, str] = {}

    # Steps.

    async def create(self, place: Place) -> None:
        name = self._new_name()
        self._ids[name] = (await self.world.create(name, place)).id
        self.model.create(name, read(self.world.tree))

    async def edit(self, name: str, edit: Edit) -> None:
        carry_out(await self.world.live(await self._container(name)), edit)
        self.model.edit(name, edit)

    async def snapshot(self, name: str, kill: Kill | None = None) -> None:
        job = await self.world.begin_snapshot(await self._container(name))
        self.model.snapshot(name, str(job.params["snapshot"]))
        await self._carry_out(job, kill)

    async def copy(
        self, source: str, place: Place, snapshot_id: str | None = None, kill: Kill | None = None
    ) -> None:
        name = self._new_name()
        entry = await self._entry(source, snapshot_id) if snapshot_id else None
        made, job = await self.world.begin_copy(await self._container(source), place, name, entry)
        self._ids[name] = made.id
        self.model.copy(name, source, snapshot_id)
        await self._carry_out(job, kill, entry)
        await self._none_twice(place)

    async def sync(self, name: str, kill: Kill | None) -> None:
        job = await self.world.begin_sync(await self._container(name))
        self.model.sync(name)
        await self._carry_out(job, kill)
        await self._none_twice(self.world.place(job.server_id))

    async def sync_an_orphan(self, name: str) -> None:
        job = await self.world.begin_sync(await self._container(name))
        with pytest.raises(JobError) as caught:
            await attempt(self.world, job, Fuse(0))
        assert caught.value.code == "SOURCE_CONTAINER_NOT_FOUND"
        await self.world.end(job, Move.FAIL)

    async def restore(self, name: str, snapshot_id: str, kill: Kill | None = None) -> None:
        entry = await self._entry(name, snapshot_id)
        job = await self.world.begin_restore(await self._container(name), entry)
        self.model.restore(name, snapshot_id)
        await self._carry_out(job, kill, entry)

    async def delete_snapshot(self, name: str, snapshot_id: str, kill: Kill | None) -> None:
        entry = await self._entry(name, snapshot_id)
        self.model.delete_snapshot(name, snapshot_id)
        await self._carry_out(await self.world.begin_delete_snapshot(entry), kill)

    async def expire_snapshot(self, name: str, snapshot_id: str, kill: Kill | None) -> None:
        async with self.world.db.write() as tx:
            await user_snapshots.change(tx, self._ids[name], snapshot_id, expires_at=now())
        self.model.delete_snapshot(name, snapshot_id)
        await self._carry_out(await self.world.begin_expire(await self._container(name)), kill)

    async def delete(self, name: str, kill: Kill | None = None) -> None:
        job = await self.world.begin_remove(await self._container(name))
        self.model.delete(name)
        await self._carry_out(job, kill)

    async def collect(self, place: Place, kill: Kill | None) -> None:
        """One round on one server."""
        fuse = Fuse(kill.call if kill else 0)
        collector = self.world.collector(place, storage=MortalStorage(place.storage, fuse))
        mortal: Any = MortalDatabase(self.world.db, fuse)
        collector._db = mortal
        try:
            await collector.run(now())
        except Killed:
            if kill and kill.then_collect:
                await self.world.settle(place)

    async def settle(self) -> None:
        for place in self.world.places:
            await self.world.settle(place)

    # Comparing.

    async def compare(self) -> None:
        """What is live and what is listed."""
        for name, (container, listed) in (await self._catalogue()).items():
            kept = self.model.containers[name]
            live = self.world.place(container.server_id).storage.rootfs(self.world.path(container))
            assert read(Path(live)) == kept.tree, name
            assert [entry.id for entry in listed] == kept.newest_first(), name
            assert len({entry.name for entry in listed}) == len(listed), name
            for entry in listed:
                assert entry.inherited is kept.snapshots[entry.id].inherited, (name, entry.name)

    async def compare_snapshots(self) -> None:
        """Each snapshot of each container, on the container's own server."""
        for name, (container, listed) in (await self._catalogue()).items():
            for entry in listed:
                found = await self._state(self.world.place(container.server_id), entry.guid)
                assert found == self.model.containers[name].snapshots[entry.id].tree, (name, entry)

    async def healthy(self) -> None:
        """No server has findings, a hold, or a dataset that is not in the catalogue."""
        for place in self.world.places:
            assert await self.world.findings(place) == []
            forest = await self.world.forest(place)
            assert [snapshot for snapshot in forest.snapshots() if snapshot.holds] == []
            assert await self.world.paths(place) == sorted(forest.datasets)

    async def empty(self) -> None:
        """Nothing is left on any server."""
        for place in self.world.places:
            assert await self.world.paths(place) == []
            assert list(await self.world.forest(place)) == []

    async def close(self) -> None:
        for place in self.world.places:
            for dataset in await self.world.forest(place):
                await place.storage.unmount(dataset.path)
        await self.world.db.close()

    # Parts.

    async def _carry_out(
        self, job: Job, kill: Kill | None, entry: UserSnapshot | None = None
    ) -> None:
        """The job's attempts; `entry` is the snapshot that it reads."""
        if await attempt(self.world, job, Fuse(kill.call if kill else 0)):
            return
        assert kill is not None
        if kill.then_delete and entry is not None:
            await self._delete_meanwhile(job, entry)
        if kill.then_collect:
            await self.settle()
        assert await attempt(self.world, job, Fuse(0))

    async def _delete_meanwhile(self, job: Job, entry: UserSnapshot) -> None:
        """A copy that has not switched yet will not list it."""
        await self.world.delete_snapshot(entry)
        without = {entry.container_id}
        if (await self.world.get(job.container_id)).generation_id is None:
            without.add(job.container_id)
        for name in self.model.containers:
            if self._ids[name] in without:
                self.model.delete_snapshot(name, entry.id)

    async def _none_twice(self, place: Place) -> None:
        """What was here already was not shipped again."""
        guids = [snapshot.guid for snapshot in (await self.world.forest(place)).snapshots()]
        assert len(set(guids)) == len(guids)

    def _new_name(self) -> str:
        return f"c{len(self._ids) + 1}"

    async def _container(self, name: str) -> Container:
        return await self.world.get(self._ids[name])

    async def _entry(self, name: str, snapshot_id: str) -> UserSnapshot:
        return await self.world.entry(await self._container(name), snapshot_id)

    async def _catalogue(self) -> dict[str, tuple[Container, list[UserSnapshot]]]:
        """Each container and what it lists, in one transaction."""
        found = {}
        async with self.world.db.read() as tx:
            for name in self.model.containers:
                container = await containers.get(tx, self._ids[name])
                assert container is not None
                found[name] = container, await user_snapshots.listed(tx, container.id)
        return found

    async def _state(self, place: Place, guid: Guid) -> Tree:
        """The tree of a snapshot, as a restore would find it."""
        path = generation_path(new_id(), new_id())
        await place.storage.clone(guid, path)
        tree = read(Path(await place.storage.mount(path)))
        await place.storage.unmount(path)
        await place.storage.destroy(path)
        return tree
