"""The world of a test: a catalogue on SQLite, and two servers."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from daemon.model import Container
from daemon.store.database import Database
from tests.contract.engine.stand_in import StandIn
from tests.contract.engine.works import Works
from tests.engine_world import World
from tests.migrated import make_migrated
from transfer import command


@pytest.fixture(scope="session")
def empty_catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated file without rows."""
    return make_migrated(tmp_path_factory.mktemp("engine"))


@pytest.fixture
def url(tmp_path: Path, empty_catalogue: Path) -> str:
    shutil.copy(empty_catalogue, tmp_path / "catalogue.db")
    return f"sqlite:///{tmp_path}/catalogue.db"


@pytest.fixture
async def db(url: str) -> AsyncIterator[Database]:
    database = Database(url)
    yield database
    await database.close()


@pytest.fixture
async def world(db: Database, url: str, tmp_path: Path) -> World:
    made = World(db, url, tmp_path)
    await made.fill()
    return made


@pytest.fixture
async def zfs_world(db: Database, url: str, tmp_path: Path, zfs_pool: Callable[..., str]) -> World:
    """The same on real pools, for tests marked `zfs`."""
    made = World(db, url, tmp_path)
    await made.fill(zfs_roots={name: zfs_pool(name) for name in ("here", "there")})
    return made


@pytest.fixture
async def source(world: World) -> Container:
    """A running container on `here`."""
    return await world.create()


@pytest.fixture
async def copy(world: World, source: Container) -> Container:
    """Its copy on `there`."""
    return await world.copy(source)


@pytest.fixture
async def works(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Works]:
    stand_in = StandIn(tmp_path, monkeypatch)
    yield Works(world, stand_in, stand_in.pool(2))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """The `zfs` commands from here on."""
    found: list[Sequence[str]] = []
    ran = command.run

    async def run(argv: Sequence[str], **how: Any) -> command.Output:
        if "zfs" in argv:  # which another program may start
            found.append(argv[argv.index("zfs") :])
        return await ran(argv, **how)

    def noting(stream: Callable[..., Any]) -> Callable[..., Any]:
        @contextlib.asynccontextmanager
        async def streaming(argv: Sequence[str]) -> AsyncIterator[command.Child]:
            found.append(argv)
            async with stream(argv) as child:
                yield child

        return streaming

    monkeypatch.setattr(command, "run", run)
    for name in ("reading", "writing"):
        monkeypatch.setattr(command, name, noting(getattr(command, name)))
    return found
