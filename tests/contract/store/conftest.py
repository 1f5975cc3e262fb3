"""Every test of the catalogue runs on SQLite and on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from daemon.store.database import Database
from tests.contract.store.catalogue import Catalogue


@pytest.fixture
async def db(url: str) -> AsyncIterator[Database]:
    """The catalogue without rows."""
    database = Database(url)
    yield database
    await database.close()


@pytest.fixture
async def catalogue(db: Database) -> Catalogue:
    """The catalogue with two servers, a user and their project."""
    made = Catalogue(db)
    await made.fill()
    return made
