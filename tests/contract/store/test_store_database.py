"""Transactions: whole or not at all, one writer, readers of one state; and a database that goes."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres import Postgres
from sqlalchemy import text

from daemon.errors import CatalogueError, Conflict
from daemon.store import database, servers
from daemon.store.database import Database, Mode
from daemon.store.sequence import next_sequence
from tests.contract.store.catalogue import Catalogue, a_server

# --- transactions --------------------------------------------------------------------------------


async def names(db: Database) -> list[str]:
    async with db.read() as tx:
        return sorted(server.name for server in await servers.every(tx))


async def test_an_error_takes_the_whole_transaction_back(db: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        async with db.write() as tx:
            await servers.put(tx, a_server("a"))
            raise ZeroDivisionError
    with pytest.raises(Conflict):
        async with db.write() as tx:
            await servers.put(tx, a_server("b"))
            await servers.put(tx, a_server("b"))
    assert await names(db) == []


async def test_a_transaction_that_reads_cannot_write(db: Database) -> None:
    with pytest.raises(CatalogueError):
        async with db.read() as tx:
            await servers.put(tx, a_server("a"))
    async with db.write() as tx:
        await servers.put(tx, a_server("b"))
    assert await names(db) == ["b"]


async def test_a_reader_sees_one_state_and_waits_for_nobody(db: Database) -> None:
    async with db.read() as reader:
        assert await servers.every(reader) == []
        async with db.write() as writer:
            await servers.put(writer, a_server("a"))
            assert await servers.every(reader) == []
        assert await servers.every(reader) == []
    assert await names(db) == ["a"]


async def test_a_writer_that_is_cancelled_ends(db: Database) -> None:
    """Also in the instant in which its turn comes, and in those around it."""

    stopped = asyncio.Event()

    async def write_on() -> None:
        while not stopped.is_set():
            async with db.write():
                pass

    for instants in range(10):
        async with db.write():
            writing = asyncio.create_task(write_on())
            await asyncio.sleep(0.01)
        for _ in range(instants):
            await asyncio.sleep(0)
        writing.cancel()
        done, _ = await asyncio.wait([writing], timeout=5)
        if not done:
            stopped.set()
            await writing
        assert done, f"it went on, cancelled {instants} instants after its turn came"


async def test_a_writer_that_is_cancelled_keeps_nobody_out(url: str) -> None:
    """Not even while somebody still has what it failed with, and so the statement that it was
    in the middle of."""
    one, other = Database(url), Database(url)
    failures = []

    async def write() -> None:
        async with one.write() as tx:
            await next_sequence(tx)

    for number in range(200):
        writing = asyncio.create_task(write())
        await asyncio.sleep(number % 50 * 0.0001)
        writing.cancel()
        failures += await asyncio.gather(writing, return_exceptions=True)
        async with other.write() as tx:
            await next_sequence(tx)
    await one.close()
    await other.close()


async def test_writers_take_turns_and_see_what_was_committed(url: str) -> None:
    """Two programs of eight writers each, that read first and write then."""
    programs = [Database(url), Database(url)]

    async def count(db: Database) -> None:
        for _ in range(4):
            async with db.write() as tx:
                await servers.every(tx)
                await next_sequence(tx)

    await asyncio.gather(*(count(db) for db in programs for _ in range(8)))
    async with programs[0].write() as tx:
        assert await next_sequence(tx) == 65
    for db in programs:
        await db.close()


async def test_a_cancelled_writer_leaves_nothing_and_stands_in_nobodys_way(db: Database) -> None:
    written = asyncio.Event()

    async def hang() -> None:
        async with db.write() as tx:
            await servers.put(tx, a_server("a"))
            written.set()
            await asyncio.Event().wait()

    writer = asyncio.create_task(hang())
    await written.wait()
    waiting = asyncio.create_task(hang())
    writer.cancel()
    waiting.cancel()
    await asyncio.gather(writer, waiting, return_exceptions=True)
    async with db.write() as tx:
        await servers.put(tx, a_server("b"))
    assert await names(db) == ["b"]


async def test_a_writer_that_cannot_have_its_turn_says_so(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with db.write():
        monkeypatch.setattr(database, "WAIT_SECONDS", 0.05)
        with pytest.raises(CatalogueError, match="busy"):
            async with db.write():
                pass


async def test_closing_ends_every_connection_and_may_be_done_twice(url: str) -> None:
    before = set(threading.enumerate())
    db = Database(url)
    await asyncio.gather(*(db.check() for _ in range(4)))
    threads = set(threading.enumerate()) - before
    await db.close()
    await db.close()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)


# --- addresses -----------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["mysql://x/y", "/var/lib/hoody.db", ""])
def test_another_database_is_refused(url: str) -> None:
    with pytest.raises(CatalogueError, match="sqlite:/// nor postgresql://"):
        Database(url)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory_is_refused(url: str) -> None:
    with pytest.raises(CatalogueError, match="names no file"):
        Database(url)


async def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    db = Database(f"sqlite:///{tmp_path}/none/catalogue.db")
    with pytest.raises(CatalogueError, match="unable to open"):
        await db.check()
    assert not [t for t in threading.enumerate() if t not in before and "worker" in t.name]
    await db.close()


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "catalogue.db").write_bytes(os.urandom(8192))
    db = Database(f"sqlite:///{tmp_path}/catalogue.db")
    with pytest.raises(CatalogueError, match="not a database"):
        await db.check()
    await db.close()


async def test_what_sqlite_keeps_is_kept(sqlite_template: Path) -> None:
    db = Database(f"sqlite:///{sqlite_template}")
    async with db.read() as tx:
        settings = {
            name: (await tx.execute(text(f"PRAGMA {name}"))).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert settings == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 15000,
    }
    await db.close()


# --- a PostgreSQL that goes away -----------------------------------------------------------------


@pytest.fixture
def mortal(postgres: Postgres) -> Iterator[Postgres]:
    """The server, which is running again after the test."""
    yield postgres
    postgres.stop()
    postgres.start()


@pytest.mark.postgres
async def test_a_server_that_stops_is_a_catalogue_error_and_is_found_again(
    mortal: Postgres,
) -> None:
    db = Database(mortal.url("template"))
    await db.check()
    with pytest.raises(CatalogueError):
        async with db.write() as tx:
            await next_sequence(tx)
            mortal.stop()
            await next_sequence(tx)
    with pytest.raises(CatalogueError):
        await db.check()
    mortal.start()
    await db.check()
    async with db.write() as tx:
        assert await next_sequence(tx) == 1
        await tx.rollback()
    await db.close()


@pytest.mark.postgres
async def test_whatever_is_cut_is_a_catalogue_error(mortal: Postgres) -> None:
    """In the middle of any statement, or between two: nothing that the driver says gets through,
    and what was lost in the pool is noticed there, by nobody else."""
    db = Database(mortal.url("template", user="torn"))
    mortal.create_user("torn")
    outcomes: Counter[str] = Counter()

    async def use(mode: Mode) -> None:
        for _ in range(60):
            try:
                async with getattr(db, mode)() as tx:
                    await servers.every(tx)
                    await tx.execute(text("SELECT pg_sleep(0.002)"))
            except CatalogueError:
                outcomes["gone"] += 1
            else:
                outcomes["done"] += 1

    using = [asyncio.create_task(use(mode)) for mode in ("read", "write") for _ in range(3)]
    while not all(task.done() for task in using):
        await asyncio.to_thread(mortal.cut, "torn")
    await asyncio.gather(*using)
    assert min(outcomes["gone"], outcomes["done"]) > 0
    await db.check()
    for _ in range(3):
        await asyncio.to_thread(mortal.cut, "torn")
        await db.check()
    await db.close()


@pytest.mark.postgres
async def test_an_answer_that_does_not_come_is_a_catalogue_error(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the connection is not used again."""
    monkeypatch.setattr(database, "WAIT_SECONDS", 1)
    db = Database(postgres.url("template"))
    await db.check()
    with pytest.raises(CatalogueError, match="lost: TimeoutError"):
        async with db.read() as tx:
            mine = (await tx.execute(text("SELECT pg_backend_pid()"))).scalar_one()
            await tx.execute(text("SELECT pg_sleep(60)"))
    async with db.read() as tx:
        assert (await tx.execute(text("SELECT pg_backend_pid()"))).scalar_one() != mine
    await db.close()


@pytest.mark.postgres
async def test_an_unknown_database_is_a_catalogue_error(postgres: Postgres) -> None:
    db = Database(postgres.url("nobody"))
    with pytest.raises(CatalogueError, match="nobody"):
        await db.check()
    await db.close()


@pytest.mark.postgres
async def test_an_address_with_an_unknown_ssl_mode_is_a_catalogue_error() -> None:
    db = Database("postgresql://hoody@127.0.0.1:1/db?sslmode=sometimes")
    with pytest.raises(CatalogueError):
        await db.check()
    await db.close()


async def test_a_catalogue_that_is_filled_twice_stays_the_same(catalogue: Catalogue) -> None:
    await catalogue.fill()
    assert await names(catalogue.db) == ["here", "there"]
