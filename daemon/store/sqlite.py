"""SQLite behind an event loop: one change of thread for each statement.

aiosqlite runs a connection's calls in a thread of its own. SQLAlchemy asks it for a cursor, to
execute, to fetch and to close: four calls, each of which costs more than most of our statements
do. Here they are one, and a rollback of what nothing was done in is none.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import aiosqlite

from daemon.errors import CatalogueError

_SETTINGS = """
    PRAGMA journal_mode=WAL;
    PRAGMA synchronous=FULL;
    PRAGMA foreign_keys=ON;
"""


async def connect(path: str, wait_seconds: float) -> aiosqlite.Connection:
    """A connection to the database file at `path`, whose calls wait so long for another's lock.

    Raises CatalogueError when there is no database, and none can be made.
    """
    # Python's driver must not begin transactions of its own; `begin` does.
    opened = partial(sqlite3.connect, path, timeout=wait_seconds, isolation_level=None)
    connection = _Connection(opened, iter_chunk_size=1)
    # The thread must not outlive what goes wrong here, nor keep the program from ending.
    thread = connection._thread  # noqa: SLF001  # aiosqlite shows it in no other way
    thread.daemon = True
    try:
        await connection
        await connection.executescript(_SETTINGS)
    except sqlite3.Error as error:
        await connection.close()
        await asyncio.to_thread(thread.join)
        raise CatalogueError(f"no SQLite database at {path}: {error}") from error
    except asyncio.CancelledError:
        connection.stop()
        raise
    return connection


async def begin(connection: aiosqlite.Connection, *, writes: bool) -> None:
    """Begin a transaction. Raises CatalogueError when another writer holds the lock too long."""
    # A transaction that reads first and writes later cannot wait for its turn: SQLite refuses it
    # at once when another one wrote in between. So a writer says so at the beginning.
    query_only, kind = ("OFF", "IMMEDIATE") if writes else ("ON", "DEFERRED")
    try:
        await connection.executescript(f"PRAGMA query_only={query_only}; BEGIN {kind}")
    except sqlite3.Error as error:
        raise CatalogueError(f"the database refused: {error}") from error


class _Connection(aiosqlite.Connection):
    """aiosqlite's, with cursors that cost one call, and rollbacks only where they are needed."""

    _settled = False
    """Whether the last call was a commit or a rollback that came back. What was cancelled may
    still run, and is not."""

    async def cursor(self) -> _Cursor:  # type: ignore[override]  # SQLAlchemy needs no more of it
        return _Cursor(self)

    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._settled = False
        call = super()._execute(fn, *args, **kwargs)  # type: ignore[no-untyped-call]  # it has none
        return await call

    async def call(self, work: Callable[..., None], *given: object) -> None:
        """Have `work(driver, *given)` done in the connection's thread."""
        await self._execute(work, self._conn, *given)

    async def commit(self) -> None:
        await super().commit()
        self._settled = True

    async def rollback(self) -> None:
        """The pool asks for one whenever a connection comes back, also after a commit."""
        if not self._settled:
            await super().rollback()
            self._settled = True


class _Cursor:
    """A statement with its rows, fetched at once: the part of a cursor that SQLAlchemy uses."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._rows: list[tuple[object, ...]] = []
        self.description: object = None
        self.lastrowid: int | None = None
        self.rowcount = -1

    async def execute(self, statement: str, parameters: Sequence[object] = ()) -> None:
        await self._connection.call(self._run, sqlite3.Cursor.execute, statement, parameters)

    async def executemany(self, statement: str, parameters: Sequence[Sequence[object]]) -> None:
        await self._connection.call(self._run, sqlite3.Cursor.executemany, statement, parameters)

    async def fetchall(self) -> list[tuple[object, ...]]:
        return self._rows

    async def close(self) -> None:
        """Nothing is open: the rows are here."""

    def _run(self, driver: sqlite3.Connection, method: _Method, statement: str, given: Any) -> None:
        with closing(driver.cursor()) as cursor:
            method(cursor, statement, given)
            self.description, self._rows = cursor.description, cursor.fetchall()
            self.lastrowid, self.rowcount = cursor.lastrowid, cursor.rowcount


_Method = Callable[[sqlite3.Cursor, str, Any], sqlite3.Cursor]
