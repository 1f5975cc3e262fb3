"""A server with containers on a real network, and a catalogue on SQLite."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from daemon.store.database import Database
from tests.contract.network.sites import Site
from tests.contract.store.catalogue import Catalogue
from tests.migrated import make_migrated
from tests.wires import Wires, opened


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated file without rows."""
    return make_migrated(tmp_path_factory.mktemp("network"))


@pytest.fixture
def wires() -> Iterator[Wires]:
    yield from opened()


@pytest.fixture
async def catalogue(migrated: Path, tmp_path: Path) -> AsyncIterator[Catalogue]:
    shutil.copy(migrated, tmp_path / "catalogue.db")
    db = Database(f"sqlite:///{tmp_path}/catalogue.db")
    made = Catalogue(db)
    await made.fill()
    yield made
    await db.close()


@pytest.fixture
async def site(wires: Wires, catalogue: Catalogue, tmp_path: Path) -> AsyncIterator[Site]:
    made = Site(catalogue, tmp_path / "state")
    yield made
    await made.close()


@pytest.fixture
async def other_site(wires: Wires, catalogue: Catalogue, tmp_path: Path) -> AsyncIterator[Site]:
    """Another daemon on the same machine."""
    made = Site(catalogue, tmp_path / "other", "10.89.0.0/16", catalogue.there.id)
    yield made
    await made.close()
