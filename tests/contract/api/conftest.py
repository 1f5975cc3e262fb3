"""The world and the API of a test; a test that needs another one changes it before it asks."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp.test_utils import TestClient, TestServer
from structlog.testing import capture_logs

from daemon.api.app import make_app
from daemon.config import LimitsSection
from daemon.store.database import Database
from tests.contract.api.api_world import Api, World
from tests.contract.api.contract_stage import Stage
from tests.migrated import make_migrated

HANG_SECONDS = 90


@pytest.fixture(scope="session")
def empty_catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the newest schema: making it takes longer than most tests."""
    return make_migrated(tmp_path_factory.mktemp("api"))


@asynccontextmanager
async def filled(template: Path, directory: Path, **limits: Any) -> AsyncIterator[World]:
    """A world whose catalogue lies in the directory."""
    shutil.copy(template, directory / "catalogue.db")
    db = Database(f"sqlite:///{directory}/catalogue.db")
    roots = directory / "imports"
    roots.mkdir()
    made = World(db, limits=LimitsSection(**limits), import_roots=(str(roots),))
    await made.fill()
    yield made
    await db.close()


@pytest.fixture
async def world(
    empty_catalogue: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[World]:
    """A filled catalogue. `@pytest.mark.parametrize("world", …, indirect=True)` sets the config's
    limits."""
    async with filled(empty_catalogue, tmp_path, **getattr(request, "param", {})) as made:
        yield made


@pytest.fixture
async def api(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    """The API of the server `here`, over TCP. A request that waits for a job in vain is a test
    that fails, and soon."""
    monkeypatch.setattr("daemon.api.waiting.WAIT_SECONDS", HANG_SECONDS)
    monkeypatch.setattr("daemon.api.freshness.WAIT_SECONDS", 0)  # nobody looks here
    async with TestClient(TestServer(make_app(world.deps))) as client:
        yield Api(world, client)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(
    empty_catalogue: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stage]:
    """The contract's stage, for the tests of one file that leave it as it was."""
    directory = tmp_path_factory.mktemp("stage")
    async with filled(empty_catalogue, directory, requests_per_minute=100_000) as made:
        # Most of the time would go into tracebacks that are wanted.
        with capture_logs(), pytest.MonkeyPatch.context() as hurried:
            hurried.setattr("daemon.api.waiting.WAIT_SECONDS", HANG_SECONDS)
            async with TestClient(TestServer(make_app(made.deps))) as client:
                yield await Stage.of(made, Api(made, client), directory / "catalogue.db")


@pytest.fixture
async def own_stage(api: Api, tmp_path: Path) -> Stage:
    """The contract's stage for one test, which may do with it what it likes."""
    return await Stage.of(api.world, api, tmp_path / "catalogue.db")
