"""The world and the API of a test; a test that needs another one changes it before it asks."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer
from api_world import Api, World

from daemon.api.app import make_app
from daemon.config import LimitsSection
from daemon.store.database import Database
from daemon.store.migrate import migrate

HANG_SECONDS = 30


@pytest.fixture(scope="session")
def empty_catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the newest schema: making it takes longer than most tests."""
    path = tmp_path_factory.mktemp("api") / "catalogue.db"

    async def make() -> None:
        db = Database(f"sqlite:///{path}")
        await migrate(db)
        await db.close()

    asyncio.run(make())
    return path


@pytest.fixture
async def world(
    empty_catalogue: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[World]:
    """A filled catalogue. `@pytest.mark.parametrize("limits", …)` sets the config's limits."""
    shutil.copy(empty_catalogue, tmp_path / "catalogue.db")
    db = Database(f"sqlite:///{tmp_path}/catalogue.db")
    limits = LimitsSection(**getattr(request, "param", {}))
    roots = tmp_path / "imports"
    roots.mkdir()
    made = World(db, limits=limits, import_roots=(str(roots),))
    await made.fill()
    yield made
    await db.close()


@pytest.fixture
async def api(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    """The API of the server `here`, over TCP. A request that waits for a job in vain is a test
    that fails, and soon."""
    monkeypatch.setattr("daemon.api.waiting.WAIT_SECONDS", HANG_SECONDS)
    async with TestClient(TestServer(make_app(world.deps))) as client:
        yield Api(world, client)
