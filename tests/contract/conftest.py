"""Catalogues on SQLite and on a real PostgreSQL: a test that asks for `url` runs on both."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.store.database import Database
from daemon.store.migrate import migrate
from tests.migrated import make_migrated
from tests.postgres import Postgres, serving

BACKENDS = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A running server with the migrated database `template`."""

    async def make_schema(url: str) -> None:
        db = Database(url)
        await migrate(db)
        await db.close()

    with serving() as server:
        server.create("template")
        asyncio.run(make_schema(server.url("template")))
        yield server


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated file."""
    return make_migrated(tmp_path_factory.mktemp("template"))


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
