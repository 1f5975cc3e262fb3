"""Every test of the catalogue runs on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from postgres import Postgres, serving

from daemon.store.database import Database
from daemon.store.migrate import migrate
from tests.contract.store.catalogue import Catalogue

BACKENDS = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]

_numbers = itertools.count(1)


def make_schema(url: str) -> None:
    """Migrate an empty database."""

    async def run() -> None:
        db = Database(url)
        await migrate(db)
        await db.close()

    asyncio.run(run())


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A running server with the migrated database `template`."""
    with serving() as server:
        server.create("template")
        make_schema(server.url("template"))
        yield server


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated file."""
    path = tmp_path_factory.mktemp("template") / "catalogue.db"
    make_schema(f"sqlite:///{path}")
    return path


@pytest.fixture(params=BACKENDS)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of an empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/catalogue.db"
    else:
        yield from _postgres_database(request.getfixturevalue("postgres"), "template0")


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a catalogue of this schema, without rows."""
    if request.param == "sqlite":
        path = tmp_path / "catalogue.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
    else:
        yield from _postgres_database(request.getfixturevalue("postgres"), "template")


def _postgres_database(server: Postgres, template: str) -> Iterator[str]:
    name = f"test{next(_numbers)}"
    server.create(name, template)
    yield server.url(name)
    server.drop(name)


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
