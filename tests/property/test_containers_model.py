"""Containers on three servers against a model in plain Python, whatever is done in what order.

Each step may be killed at one of its calls, and is then done again, after a collect or not. The
live trees and the lists are compared after each step; at the end, when every server has collected
all that it can, the tree of each snapshot of each container, and what doctor says. The examples
are always the same ones: a failure is replayed by running the test again.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from daemon.errors import JobError
from daemon.model import Container, Job, UserSnapshot, generation_path, new_id, now
from daemon.states import Move
from daemon.store import containers, user_snapshots
from daemon.store.database import Database
from daemon.store.migrate import migrate
from tests.containers_model import Edit, File, Model, Tree, carry_out, read
from tests.engine_world import Place, World
from tests.mortal import Fuse, Killed, MortalDatabase, MortalStorage, attempt
from transfer.model import Guid

CONTAINERS_MAX = 4
PLACES = ("here", "there", "yonder")
NAMES = ("a", "b", "c")

Data = st.DataObject
OpenWorld = Callable[[Path], Coroutine[Any, Any, World]]


@dataclass(frozen=True)
class Kill:
    """When a step is killed: after this many calls. Then the servers may collect before it is
    done again."""

    call: int
    then_collect: bool


places = st.integers(0, len(PLACES) - 1)
calls = st.integers(1, 20) | st.integers(1, 70)
kills = st.none() | st.builds(Kill, calls, st.booleans())
files = st.builds(
    lambda byte, size, second: File(bytes([byte]) * size, 10**9 + second),
    st.integers(0, 255),
    st.sampled_from([8, 8, 0, 300_000]),
    st.integers(0, 1),  # so that times seldom tell contents apart
)


@st.composite
def edits(draw: st.DrawFn, tree: Tree) -> Edit:
    """A change that can be made to the tree. `etc` and `root` stay where they are: below them
    lies a container's own identity."""
    own = [path for path in tree if path.split("/")[0] not in ("etc", "root")]
    folders = ["", *(f"{path}/" for path in own if tree[path] is None and "/" not in path)]
    free = [folder + name for folder in folders for name in NAMES if folder + name not in tree]
    verb = draw(st.sampled_from(["write", "write", "folder", "move", "remove"]))
    if verb == "write" or not own:
        taken = [path for path in own if tree[path] is not None]
        return Edit("write", draw(st.sampled_from(free + taken)), file=draw(files))
    if verb == "folder" and free:
        return Edit("folder", draw(st.sampled_from(free)))
    path = draw(st.sampled_from(own))
    targets = [target for target in free if not target.startswith(f"{path}/")]
    if verb == "move" and targets:
        return Edit("move", path, draw(st.sampled_from(targets)))
    return Edit("remove", path)


class Containers(RuleBasedStateMachine):
    """The machine: each rule does one thing to the world and to the model."""

    def __init__(self, open_world: OpenWorld) -> None:
        super().__init__()
        self.model = Model()
        self.ids: dict[str, str] = {}
        self._sound = True
        self._directory = tempfile.TemporaryDirectory(prefix="hoody-model-", dir=MEMORY)
        self._runner = asyncio.Runner()
        self.world = self._runner.run(open_world(Path(self._directory.name)))

    def teardown(self) -> None:
        try:
            if self._sound:
                self._do(self._finally())
        finally:
            self._runner.run(self._clear_up())
            self._runner.close()
            self._directory.cleanup()

    def _do(self, what: Coroutine[Any, Any, None]) -> None:
        """Runs a step; one that fails is the last."""
        self._sound = False
        self._runner.run(what)
        self._sound = True

    # Steps. `kill` says when the step is killed at first.

    @initialize(at=places, copy_at=places)
    def begin(self, at: int, copy_at: int) -> None:
        """A container with a snapshot, and its copy."""
        self.create(at)
        self._do(self._snapshot("c1", None))
        self._do(self._copy("c1", None, self.world.places[copy_at], None))

    @precondition(lambda self: len(self.model.containers) < 2)
    @rule(at=places)
    def create(self, at: int) -> None:
        self._do(self._create(self.world.places[at]))

    @rule(data=st.data())
    def edit(self, data: Data) -> None:
        self._draw_edit(data, self._draw(data, [*self.model.containers]))

    @rule(data=st.data(), edited=st.booleans(), kill=kills)
    def snapshot(self, data: Data, edited: bool, kill: Kill | None) -> None:
        name = self._draw(data, [*self.model.containers])
        if edited:
            self._draw_edit(data, name)
        self._do(self._snapshot(name, kill))

    @precondition(lambda self: len(self.model.containers) < CONTAINERS_MAX)
    @rule(data=st.data(), at=places, kill=kills)
    def copy(self, data: Data, at: int, kill: Kill | None) -> None:
        source = self._draw(data, [*self.model.containers])
        self._do(self._copy(source, None, self.world.places[at], kill))

    @precondition(lambda self: len(self.model.containers) < CONTAINERS_MAX)
    @precondition(lambda self: self.model.with_snapshots())
    @rule(data=st.data(), at=places, kill=kills)
    def copy_a_snapshot(self, data: Data, at: int, kill: Kill | None) -> None:
        source, snapshot_id = self._draw_snapshot(data)
        self._do(self._copy(source, snapshot_id, self.world.places[at], kill))

    @precondition(lambda self: self.model.copies(orphaned=False))
    @rule(data=st.data(), edited=st.booleans(), kill=kills)
    def sync(self, data: Data, edited: bool, kill: Kill | None) -> None:
        name = self._draw(data, self.model.copies(orphaned=False))
        if edited:
            self._draw_edit(data, self.model.containers[name].source or "")
        self._do(self._sync(name, kill))

    @precondition(lambda self: self.model.copies(orphaned=True))
    @rule(data=st.data())
    def sync_an_orphan(self, data: Data) -> None:
        self._do(self._sync_an_orphan(self._draw(data, self.model.copies(orphaned=True))))

    @precondition(lambda self: self.model.with_snapshots())
    @rule(data=st.data(), kill=kills)
    def restore(self, data: Data, kill: Kill | None) -> None:
        self._do(self._restore(*self._draw_snapshot(data), kill))

    @precondition(lambda self: self.model.with_snapshots())
    @rule(data=st.data(), expires=st.booleans(), kill=kills)
    def delete_snapshot(self, data: Data, expires: bool, kill: Kill | None) -> None:
        self._do(self._delete_snapshot(*self._draw_snapshot(data), expires, kill))

    @precondition(lambda self: len(self.model.containers) > 2)
    @rule(data=st.data(), kill=kills)
    def delete(self, data: Data, kill: Kill | None) -> None:
        self._do(self._delete(self._draw(data, [*self.model.containers]), kill))

    @rule(at=places, kill=kills)
    def collect(self, at: int, kill: Kill | None) -> None:
        self._do(self._collect(self.world.places[at], kill))

    @invariant()
    def what_is_live_and_listed_is_as_in_the_model(self) -> None:
        if self._sound:
            self._do(self._compare())

    # Choosing.

    def _draw(self, data: Data, names: list[str]) -> str:
        return str(data.draw(st.sampled_from(names), "container"))

    def _draw_edit(self, data: Data, name: str) -> None:
        edit = data.draw(edits(self.model.containers[name].tree), "edit")
        self._do(self._edit(name, edit))

    def _draw_snapshot(self, data: Data) -> tuple[str, str]:
        """A container and a snapshot that it lists: the newest is number 0."""
        name = self._draw(data, self.model.with_snapshots())
        ids = self.model.containers[name].newest_first()
        return name, ids[data.draw(st.integers(0, len(ids) - 1), "snapshot")]

    # Doing.

    async def _container(self, name: str) -> Container:
        return await self.world.get(self.ids[name])

    async def _entry(self, name: str, snapshot_id: str) -> UserSnapshot:
        return await self.world.entry(await self._container(name), snapshot_id)

    def _new_name(self) -> str:
        return f"c{len(self.ids) + 1}"

    async def _carry_out(self, job: Job, kill: Kill | None) -> None:
        if not await attempt(self.world, job, Fuse(kill.call if kill else 0)):
            if kill and kill.then_collect:
                await self._settle()
            assert await attempt(self.world, job, Fuse(0))

    async def _create(self, place: Place) -> None:
        name = self._new_name()
        self.ids[name] = (await self.world.create(name, place)).id
        self.model.create(name, read(self.world.tree))

    async def _edit(self, name: str, edit: Edit) -> None:
        carry_out(await self.world.live(await self._container(name)), edit)
        self.model.edit(name, edit)

    async def _snapshot(self, name: str, kill: Kill | None) -> None:
        job = await self.world.begin_snapshot(await self._container(name))
        await self._carry_out(job, kill)
        self.model.snapshot(name, str(job.params["snapshot"]))

    async def _copy(
        self, source: str, snapshot_id: str | None, place: Place, kill: Kill | None
    ) -> None:
        name = self._new_name()
        original = await self._container(source)
        entry = await self._entry(source, snapshot_id) if snapshot_id else None
        made, job = await self.world.begin_copy(original, place, name, entry)
        await self._carry_out(job, kill)
        self.ids[name] = made.id
        self.model.copy(name, source, snapshot_id)

    async def _sync(self, name: str, kill: Kill | None) -> None:
        await self._carry_out(await self.world.begin_sync(await self._container(name)), kill)
        self.model.sync(name)

    async def _sync_an_orphan(self, name: str) -> None:
        job = await self.world.begin_sync(await self._container(name))
        with pytest.raises(JobError) as caught:
            await attempt(self.world, job, Fuse(0))
        assert caught.value.code == "SOURCE_CONTAINER_NOT_FOUND"
        await self.world.end(job, Move.FAIL)

    async def _restore(self, name: str, snapshot_id: str, kill: Kill | None) -> None:
        entry = await self._entry(name, snapshot_id)
        await self._carry_out(
            await self.world.begin_restore(await self._container(name), entry), kill
        )
        self.model.restore(name, snapshot_id)

    async def _delete_snapshot(
        self, name: str, snapshot_id: str, expires: bool, kill: Kill | None
    ) -> None:
        if expires:
            async with self.world.db.write() as tx:
                await user_snapshots.change(tx, self.ids[name], snapshot_id, expires_at=now())
            job = await self.world.begin_expire(await self._container(name))
        else:
            job = await self.world.begin_delete_snapshot(await self._entry(name, snapshot_id))
        await self._carry_out(job, kill)
        self.model.delete_snapshot(name, snapshot_id)

    async def _delete(self, name: str, kill: Kill | None) -> None:
        await self._carry_out(await self.world.begin_remove(await self._container(name)), kill)
        self.model.delete(name)

    async def _collect(self, place: Place, kill: Kill | None) -> None:
        fuse = Fuse(kill.call if kill else 0)
        collector = self.world.collector(place, storage=MortalStorage(place.storage, fuse))
        mortal: Any = MortalDatabase(self.world.db, fuse)
        collector._db = mortal
        try:
            await collector.run(now())
        except Killed:
            if kill and kill.then_collect:
                await self.world.settle(place)

    async def _settle(self) -> None:
        for place in self.world.places:
            await self.world.settle(place)

    # Comparing.

    async def _compare(self) -> None:
        for name, (container, listed) in (await self._read_catalogue()).items():
            kept = self.model.containers[name]
            live = self.world.place(container.server_id).storage.rootfs(self.world.path(container))
            assert read(Path(live)) == kept.tree, name
            assert [entry.id for entry in listed] == kept.newest_first(), name
            assert len({entry.name for entry in listed}) == len(listed), name
            for entry in listed:
                assert entry.inherited is kept.snapshots[entry.id].inherited, (name, entry.name)

    async def _read_catalogue(self) -> dict[str, tuple[Container, list[UserSnapshot]]]:
        """Each container and what it lists, in one transaction."""
        found = {}
        async with self.world.db.read() as tx:
            for name in self.model.containers:
                container = await containers.get(tx, self.ids[name])
                assert container is not None
                found[name] = container, await user_snapshots.listed(tx, container.id)
        return found

    async def _finally(self) -> None:
        await self._settle()
        await self._compare()
        for name, (container, listed) in (await self._read_catalogue()).items():
            for entry in listed:
                found = await self._state(self.world.place(container.server_id), entry.guid)
                kept = self.model.containers[name].snapshots[entry.id]
                assert found == kept.tree, (name, entry.name)
        await self._healthy()
        for name in [*self.model.containers]:
            await self._delete(name, None)
        await self._settle()
        await self._healthy()
        for place in self.world.places:
            assert await self.world.paths(place) == []

    async def _healthy(self) -> None:
        """No server has findings, a hold, or a dataset that is not in the catalogue."""
        for place in self.world.places:
            assert await self.world.findings(place) == []
            forest = await self.world.forest(place)
            assert [snapshot for snapshot in forest.snapshots() if snapshot.holds] == []
            assert await self.world.paths(place) == sorted(forest.datasets)

    async def _state(self, place: Place, guid: Guid) -> Tree:
        """The tree of a snapshot, as a restore would find it."""
        path = generation_path(new_id(), new_id())
        await place.storage.clone(guid, path)
        tree = read(Path(await place.storage.mount(path)))
        await place.storage.unmount(path)
        await place.storage.destroy(path)
        return tree

    async def _clear_up(self) -> None:
        for place in self.world.places:
            for path in (await self.world.forest(place)).datasets:
                await place.storage.unmount(path)
        await self.world.db.close()


MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated file without rows."""
    path = tmp_path_factory.mktemp("model") / "catalogue.db"

    async def make() -> None:
        db = Database(f"sqlite:///{path}")
        await migrate(db)
        await db.close()

    asyncio.run(make())
    return path


async def open_world(
    catalogue: Path, zfs_roots: Callable[[], dict[str, str]], directory: Path
) -> World:
    shutil.copy(catalogue, directory / "catalogue.db")
    url = f"sqlite:///{directory}/catalogue.db"
    world = World(Database(url), url, directory)
    await world.fill(PLACES, zfs_roots())
    return world


def run(open_world: OpenWorld, examples: int, steps: int) -> None:
    run_state_machine_as_test(
        partial(Containers, open_world),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            phases=[Phase.generate],
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(900)
def test_containers_are_as_in_the_model_on_dir(catalogue: Path) -> None:
    run(partial(open_world, catalogue, dict), examples=60, steps=30)


@pytest.mark.zfs
@pytest.mark.timeout(900)
def test_containers_are_as_in_the_model_on_zfs(
    catalogue: Path, zfs_pool: Callable[..., str]
) -> None:
    pools = {name: zfs_pool(name) for name in PLACES}
    numbers = count()

    def zfs_roots() -> dict[str, str]:
        """New roots for each example; they go with the pools."""
        number = next(numbers)
        roots = {name: f"{pool}/{number}" for name, pool in pools.items()}
        for root in roots.values():
            subprocess.run(["zfs", "create", root], check=True)
        return roots

    run(partial(open_world, catalogue, zfs_roots), examples=8, steps=20)
