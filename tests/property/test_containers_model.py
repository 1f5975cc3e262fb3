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

from daemon.store.database import Database
from tests.containers_model import Edit, File, Model, Tree
from tests.containers_twin import Kill, Twin
from tests.engine_world import Place, World
from tests.migrated import make_migrated

CONTAINERS_MAX = 4
PLACES = ("here", "there", "yonder")
NAMES = ("a", "b", "c")

Data = st.DataObject
OpenWorld = Callable[[Path], Coroutine[Any, Any, World]]


places = st.integers(0, len(PLACES) - 1)
calls = st.integers(1, 3) | st.integers(1, 20) | st.integers(1, 70)  # before its holds, too
kills = st.none() | st.builds(Kill, calls, st.booleans(), st.booleans())
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
    """Chooses what is done next. `kill` says when a step is killed at first."""

    def __init__(self, open_world: OpenWorld) -> None:
        super().__init__()
        self._sound = True
        self._directory = tempfile.TemporaryDirectory(prefix="hoody-model-")
        self._runner = asyncio.Runner()
        self.twin = Twin(self._runner.run(open_world(Path(self._directory.name))))

    def teardown(self) -> None:
        try:
            if self._sound:
                self._do(self._finally())
        finally:
            self._runner.run(self.twin.close())
            self._runner.close()
            self._directory.cleanup()

    async def _finally(self) -> None:
        await self.twin.settle()
        await self.twin.compare()
        await self.twin.compare_snapshots()
        await self.twin.healthy()
        for name in [*self.model.containers]:
            await self.twin.delete(name)
        await self.twin.settle()
        await self.twin.healthy()
        await self.twin.empty()

    @invariant()
    def live_trees_and_lists_are_as_in_the_model(self) -> None:
        if self._sound:
            self._do(self.twin.compare())

    # Steps.

    @initialize(at=places, copy_at=places, branched=st.booleans())
    def begin(self, at: int, copy_at: int, branched: bool) -> None:
        """A container with a snapshot, or with a history that has two branches, and its copy."""
        self._do(self.twin.create(self._place(at)))
        self._do(self.twin.snapshot("c1"))
        if branched:
            self._do(self._branch("c1"))
        self._do(self.twin.copy("c1", self._place(copy_at)))

    async def _branch(self, name: str) -> None:
        [first] = self.model.containers[name].snapshots
        for path in NAMES:
            await self.twin.restore(name, first)
            await self.twin.edit(name, Edit("write", path, file=File(path.encode(), 10**9)))
            await self.twin.snapshot(name)

    @precondition(lambda self: len(self.model.containers) < CONTAINERS_MAX - 1)
    @rule(at=places)
    def create(self, at: int) -> None:
        self._do(self.twin.create(self._place(at)))

    @rule(data=st.data())
    def edit(self, data: Data) -> None:
        self._edit(data, self._choose(data, [*self.model.containers]))

    @rule(data=st.data(), edited=st.booleans(), kill=kills)
    def snapshot(self, data: Data, edited: bool, kill: Kill | None) -> None:
        name = self._choose(data, [*self.model.containers])
        if edited:
            self._edit(data, name)
        self._do(self.twin.snapshot(name, kill))

    @precondition(lambda self: len(self.model.containers) < CONTAINERS_MAX)
    @rule(data=st.data(), at=places, kill=kills)
    def copy(self, data: Data, at: int, kill: Kill | None) -> None:
        source = self._choose(data, [*self.model.containers])
        self._do(self.twin.copy(source, self._place(at), None, kill))

    @precondition(lambda self: len(self.model.containers) < CONTAINERS_MAX)
    @precondition(lambda self: self.model.with_snapshots())
    @rule(data=st.data(), at=places, kill=kills)
    def copy_a_snapshot(self, data: Data, at: int, kill: Kill | None) -> None:
        source, snapshot_id = self._choose_snapshot(data)
        self._do(self.twin.copy(source, self._place(at), snapshot_id, kill))

    @precondition(lambda self: self.model.copies(orphaned=False))
    @rule(data=st.data(), edited=st.booleans(), kill=kills)
    def sync(self, data: Data, edited: bool, kill: Kill | None) -> None:
        name = self._choose(data, self.model.copies(orphaned=False))
        if edited:
            self._edit(data, self.model.containers[name].source or "")
        self._do(self.twin.sync(name, kill))

    @precondition(lambda self: self.model.copies(orphaned=True))
    @rule(data=st.data())
    def sync_an_orphan(self, data: Data) -> None:
        name = self._choose(data, self.model.copies(orphaned=True))
        self._do(self.twin.sync_an_orphan(name))

    @precondition(lambda self: self.model.with_snapshots())
    @rule(data=st.data(), kill=kills)
    def restore(self, data: Data, kill: Kill | None) -> None:
        self._do(self.twin.restore(*self._choose_snapshot(data), kill))

    @precondition(lambda self: self.model.with_snapshots())
    @rule(data=st.data(), kill=kills)
    def delete_snapshot(self, data: Data, kill: Kill | None) -> None:
        self._do(self.twin.delete_snapshot(*self._choose_snapshot(data), kill))

    @precondition(lambda self: self.model.with_snapshots())
    @rule(data=st.data(), kill=kills)
    def expire_snapshot(self, data: Data, kill: Kill | None) -> None:
        self._do(self.twin.expire_snapshot(*self._choose_snapshot(data), kill))

    @precondition(lambda self: len(self.model.containers) == CONTAINERS_MAX)
    @rule(data=st.data(), kill=kills)
    def delete(self, data: Data, kill: Kill | None) -> None:
        self._do(self.twin.delete(self._choose(data, [*self.model.containers]), kill))

    @rule(at=places, kill=kills)
    def collect(self, at: int, kill: Kill | None) -> None:
        self._do(self.twin.collect(self._place(at), kill))

    # Parts.

    @property
    def model(self) -> Model:
        return self.twin.model

    def _do(self, step: Coroutine[Any, Any, None]) -> None:
        """Takes a step; one that fails is the last."""
        self._sound = False
        self._runner.run(step)
        self._sound = True

    def _place(self, at: int) -> Place:
        return self.twin.world.places[at]

    def _edit(self, data: Data, name: str) -> None:
        edit = data.draw(edits(self.model.containers[name].tree), "edit")
        self._do(self.twin.edit(name, edit))

    def _choose(self, data: Data, names: list[str]) -> str:
        return str(data.draw(st.sampled_from(names), "container"))

    def _choose_snapshot(self, data: Data) -> tuple[str, str]:
        """A container and a snapshot that it lists: the newest is number 0."""
        name = self._choose(data, self.model.with_snapshots())
        ids = self.model.containers[name].newest_first()
        return name, ids[data.draw(st.integers(0, len(ids) - 1), "snapshot")]


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated file without rows."""
    return make_migrated(tmp_path_factory.mktemp("model"))


async def open_world(
    catalogue: Path, zfs_roots: Callable[[], dict[str, str]], directory: Path
) -> World:
    shutil.copy(catalogue, directory / "catalogue.db")
    url = f"sqlite:///{directory}/catalogue.db"
    world = World(Database(url), url, directory)
    await world.fill(PLACES, zfs_roots())
    return world


def run(open_world: OpenWorld, examples: int, steps: int) -> None:
    class Opened(Containers):
        def __init__(self) -> None:
            super().__init__(open_world)

    run_state_machine_as_test(
        Opened,
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
    run(partial(open_world, catalogue, dict), examples=28, steps=25)


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
