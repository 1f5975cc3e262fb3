"""SQLite behind an event loop: what a statement gives, what a transaction costs, and what is left
of one that was cut off."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import aiosqlite
import pytest

from daemon.errors import CatalogueError
from daemon.store import sqlite
from daemon.store.database import Database

WAIT_SECONDS = 0.2


@pytest.fixture
async def connection(tmp_path: Path) -> AsyncIterator[aiosqlite.Connection]:
    made = await sqlite.connect(f"{tmp_path}/x.db", WAIT_SECONDS)
    await sqlite.begin(made, writes=True)
    await run(made, "CREATE TABLE t (n INTEGER)")
    await made.commit()
    yield made
    await made.close()


async def run(connection: aiosqlite.Connection, statement: str, *parameters: object) -> list[tuple]:
    cursor = await connection.cursor()
    await cursor.execute(statement, parameters)
    return list(await cursor.fetchall())


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What the threads of connections are asked for from now on."""
    asked: list[object] = []
    ask = aiosqlite.Connection._execute

    async def counted(self: aiosqlite.Connection, fn: object, *given: object, **more: object):
        asked.append(fn)
        return await ask(self, fn, *given, **more)

    monkeypatch.setattr(aiosqlite.Connection, "_execute", counted)
    return asked


async def test_a_statement_with_its_rows(connection: aiosqlite.Connection) -> None:
    cursor = await connection.cursor()
    await cursor.executemany("INSERT INTO t VALUES (?)", [(1,), (2,), (3,)])
    assert (cursor.rowcount, cursor.description) == (3, None)
    await cursor.execute("SELECT n FROM t WHERE n > ? ORDER BY n", (1,))
    assert await cursor.fetchall() == [(2,), (3,)]
    assert [column[0] for column in cursor.description] == ["n"]
    await cursor.execute("INSERT INTO t VALUES (4)")
    assert (cursor.lastrowid, await cursor.fetchall()) == (4, [])


async def test_a_statement_that_fails_leaves_the_connection_good(
    connection: aiosqlite.Connection,
) -> None:
    with pytest.raises(sqlite3.OperationalError):
        await run(connection, "SELECT nothing FROM t")
    assert await run(connection, "SELECT count(*) FROM t") == [(0,)]


async def test_a_transaction_costs_three_calls(tmp_path: Path, calls: list[object]) -> None:
    """Its beginning, its statement, its end: each call is two changes of thread."""
    db = Database(f"sqlite:///{tmp_path}/x.db")
    for connects in (True, False):
        calls.clear()
        async with db.read() as tx:
            await tx.exec_driver_sql("SELECT 1")
        assert connects or len(calls) == 3
    await db.close()


async def test_a_call_that_was_cut_off_is_rolled_back(
    connection: aiosqlite.Connection, tmp_path: Path
) -> None:
    """Cancelled right after it was asked for, it is done all the same."""
    writing = asyncio.create_task(sqlite.begin(connection, writes=True))
    await asyncio.sleep(0)
    writing.cancel()
    await asyncio.wait([writing])
    assert writing.cancelled()
    await connection.rollback()
    other = await sqlite.connect(f"{tmp_path}/x.db", WAIT_SECONDS)
    await sqlite.begin(other, writes=True)
    await other.rollback()
    await other.close()


async def test_who_waits_too_long_is_told(connection: aiosqlite.Connection, tmp_path: Path) -> None:
    await sqlite.begin(connection, writes=True)
    other = await sqlite.connect(f"{tmp_path}/x.db", WAIT_SECONDS)
    with pytest.raises(CatalogueError, match="locked"):
        await sqlite.begin(other, writes=True)
    await other.close()


async def test_a_reader_cannot_write(connection: aiosqlite.Connection) -> None:
    await sqlite.begin(connection, writes=False)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await run(connection, "INSERT INTO t VALUES (1)")
