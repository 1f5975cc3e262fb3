"""The API of `here` on a filled catalogue: every test of images runs on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp.test_utils import TestClient, TestServer

from daemon.api.app import make_app
from daemon.config import LimitsSection
from daemon.store.database import Database
from tests.contract.api.api_world import Api, World


@pytest.fixture
async def world(url: str) -> AsyncIterator[World]:
    """Alice, bob and their servers."""
    made = World(Database(url), limits=LimitsSection(requests_per_minute=100_000))
    await made.fill()
    yield made
    await made.db.close()


@pytest.fixture
async def api(world: World) -> AsyncIterator[Api]:
    """The API, over TCP."""
    async with TestClient(TestServer(make_app(world.deps))) as client:
        yield Api(world, client)
