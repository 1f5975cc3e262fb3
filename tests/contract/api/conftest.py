"""The world and the API of a test; a test that needs another one changes it before it asks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer
from api_world import Api, World

from daemon.api.app import make_app
from daemon.config import LimitsSection
from daemon.store.database import Database
from daemon.store.migrate import migrate


@pytest.fixture
async def world(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """A filled catalogue. `@pytest.mark.parametrize("limits", …)` sets the config's limits."""
    db = Database(f"sqlite:///{tmp_path}/catalogue.db")
    await migrate(db)
    limits = LimitsSection(**getattr(request, "param", {}))
    roots = tmp_path / "imports"
    roots.mkdir()
    made = World(db, limits=limits, import_roots=(str(roots),))
    await made.fill()
    yield made
    await db.close()


@pytest.fixture
async def api(world: World) -> AsyncIterator[Api]:
    """The API of the server `here`, over TCP."""
    async with TestClient(TestServer(make_app(world.deps))) as client:
        yield Api(world, client)
