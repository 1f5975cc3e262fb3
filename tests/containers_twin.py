"""Does each thing twice: to containers on real servers, and to the model; then compares."""

from __future__ import annotations

from collections.abc import Iterable
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
    """A step's first attempt ends after this many calls. Before its second one all servers may
    collect, and the snapshot that it reads may be deleted, as a user could."""

    call: int
    then_collect: bool
    then_delete: bool


class Twin:
    """The world and the model. Containers have names; the snapshot that a job reads has an id."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.model = Model()
        self._ids: dict[str, str] = {}

    # Steps: each takes the names of the model.

    async def create(self, place: Place) -> None:
        name = self._new_name()
        self._ids[name] = (await self.world.create(name, place)).id
        self.model.create(name, read(self.world.tree))

    async def edit(self, name: str, edit: Edit) -> None:
        carry_out(await self.world.live(await self._container(name)), edit)
        self.model.edit(name, edit)

    async def snapshot(self, name: str, kill: Kill | None = None) -> None:
        job = await self.world.begin_snapshot(await self._container(name))
        await self._carry_out(job, kill)
        self.model.snapshot(name, str(job.params["snapshot"]))

    async def copy(
        self, source: str, snapshot_id: str | None, place: Place, kill: Kill | None = None
    ) -> None:
        name = self._new_name()
        entry = await self._entry(source, snapshot_id) if snapshot_id else None
        made, job = await self.world.begin_copy(await self._container(source), place, name, entry)
        self._ids[name] = made.id
        copied = False
        if kill and not await attempt(self.world, job, Fuse(kill.call)):
            copied = (await self.world.get(made.id)).generation_id is not None
            if copied:
                self.model.copy(name, source, snapshot_id)
            kept = 
        await self._carry_out(job, kill)
        self.model.copy(name, source, snapshot_id)
