"""A connection pool, and transactions that read or write, on SQLite and PostgreSQL alike.

One writer at a time: SQLite has no other way, and PostgreSQL is held to it by an advisory lock.
So what a transaction read stays true until its commit: a limit that is counted, a state that is
checked, an event's id that is the highest; and no two transactions can lock each other out,
whatever rows they touch and in whatever order. Transactions here are a few short statements, and
bytes never pass through them. Readers wait for nobody and see one state of everything.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Literal, cast

import asyncpg  # type: ignore[import-untyped]  # it ships no types
from sqlalchemy import Connection, Index, event, inspect, make_url, text
from sqlalchemy.engine import AdaptedConnection, ExceptionContext
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry

from daemon.errors import CatalogueError, Conflict, SchemaUnknown
from daemon.store import schema, sqlite

Tx = AsyncConnection
"""An open transaction."""

WAIT_SECONDS = 15
"""How long a transaction waits for its turn, a connection, or the database's answer."""

LOST = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the goodbye of a session was read, and not yet its end
)
"""What asyncpg raises when PostgreSQL refuses, does not answer or is gone. SQLAlchemy knows the
third and fourth as a driver's errors; the others come through it as they are."""

_CONNECTIONS = 4
_WRITERS_LOCK = 0x686F6F6479  # "hoody": every writer of this catalogue takes it

Mode = Literal["read", "write"]


class Database:
    """The catalogue at a `sqlite:////path` or `postgresql://…` address.

    Nothing is opened before the first transaction. One object belongs to one event loop.
    """

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Tx]:
        """A transaction that sees one state of the catalogue and changes nothing.

        Raises CatalogueError when the database refuses or is gone.
        """
        async with self._transaction("read") as tx:
            yield tx

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Tx]:
        """The only transaction that writes now; commits at the end, rolls back on an error.

        Raises Conflict when a unique rule is hit, CatalogueError when the database refuses or is
        gone, or when the other writers took longer than WAIT_SECONDS.
        """
        # Writers of this process queue here, in order, rather than poll the database's lock.
        # Not by `wait_for`, which up to Python 3.11 swallows a cancellation that comes in the
        # instant in which the turn does (python/cpython#86296): its task then never ended.
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._turn.acquire()
        except TimeoutError:
            raise CatalogueError("the catalogue is busy: no turn to write") from None
        try:
            async with self._transaction("write") as tx:
                yield tx
        finally:
            self._turn.release()

    async def check(self) -> None:
        """Raise CatalogueError when the database does not answer, SchemaUnknown when it has
        another schema."""
        async with self.read() as tx:
            revision = await revision_of(tx)
        if revision is None or revision < schema.REVISION:
            raise SchemaUnknown(
                f"the catalogue has schema {revision or 'none'}, this program needs"
                f" {schema.REVISION}; run: hoodyd migrate"
            )
        if revision > schema.REVISION:
            raise SchemaUnknown(
                f"the catalogue has schema {revision}, this program knows {schema.REVISION};"
                " install the newer hoodyd here too"
            )

    async def close(self) -> None:
        """Close every connection. Transactions must have ended."""
        await self._engine.dispose()

    @asynccontextmanager
    async def _transaction(self, mode: Mode) -> AsyncIterator[Tx]:
        engine = self._engine.execution_options(mode=mode)
        if engine.dialect.name == "postgresql" and mode == "read":
            engine = engine.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
        async with AsyncExitStack() as stack:
            try:
                tx = await stack.enter_async_context(engine.begin())
            except PoolTimeout as error:
                raise CatalogueError("the catalogue is busy: no connection is free") from error
            except LOST as error:  # the look whether an old connection still lives
                raise CatalogueError(f"the connection is lost: {_said(error)}") from error
            yield tx


async def revision_of(tx: Tx) -> str | None:
    """The schema that the catalogue has; None for an empty database."""
    if not await tx.run_sync(lambda sync: inspect(sync).has_table("alembic_version")):
        return None
    found = await tx.execute(text("SELECT version_num FROM alembic_version"))
    return cast("str | None", found.scalar_one_or_none())


def _engine(url: str) -> AsyncEngine:
    try:
        kind = make_url(url).get_backend_name()
    except ArgumentError:
        kind = ""
    if kind == "sqlite":
        engine = _sqlite(url)
    elif kind == "postgresql":
        engine = _postgresql(url)
    else:
        raise CatalogueError("the database's url begins with neither sqlite:/// nor postgresql://")
    event.listen(engine.sync_engine, "handle_error", _translate)
    return engine


def _sqlite(url: str) -> AsyncEngine:
    path = make_url(url).database
    if path is None or path == ":memory:":
        raise CatalogueError("the database's url names no file: sqlite:////path")

    engine = create_async_engine(
        "sqlite+aiosqlite://",
        async_creator=partial(sqlite.connect, path, WAIT_SECONDS),
        poolclass=AsyncAdaptedQueuePool,
        pool_size=_CONNECTIONS,
        max_overflow=0,
        pool_timeout=WAIT_SECONDS,
        hide_parameters=True,  # an error's text goes to the log, and they are users' own
    )
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    event.listen(engine.sync_engine, "invalidate", _roll_back_sqlite)
    return engine


def _roll_back_sqlite(
    connection: DBAPIConnection, _entry: ConnectionPoolEntry, _error: BaseException | None
) -> None:
    # A transaction whose task is cancelled ends with its connection closed. That alone does not
    # end it for SQLite: a statement that somebody still refers to, as the traceback of the
    # cancelled task does, keeps the closed connection alive, and every other writer out.
    with suppress(sqlite3.Error):
        connection.rollback()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options()["mode"] == "write"
    adapter = cast("AdaptedConnection", connection.connection.dbapi_connection)
    adapter.run_async(partial(sqlite.begin, writes=writes))


def _postgresql(url: str) -> AsyncEngine:
    async def connect() -> asyncpg.Connection:
        # asyncpg reads the address as libpq would: sockets, sslmode, password files and all.
        try:
            return await asyncpg.connect(
                url,
                timeout=WAIT_SECONDS,
                command_timeout=2 * WAIT_SECONDS,
                server_settings={
                    "application_name": "hoodyd",
                    "lock_timeout": f"{WAIT_SECONDS}s",
                    # A writer whose machine is gone must not keep the others out.
                    "idle_in_transaction_session_timeout": f"{WAIT_SECONDS}s",
                },
            )
        except LOST as error:
            raise CatalogueError(f"no connection to PostgreSQL: {_said(error)}") from error

    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        pool_size=_CONNECTIONS,
        max_overflow=_CONNECTIONS,
        pool_timeout=WAIT_SECONDS,
        pool_pre_ping=True,
        hide_parameters=True,
    )
    event.listen(engine.sync_engine, "begin", _begin_postgresql)
    return engine


def _begin_postgresql(connection: Connection) -> None:
    # READ COMMITTED, PostgreSQL's default, is needed here: each statement after this one sees
    # what the writer before us committed.
    if connection.get_execution_options()["mode"] == "write":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITERS_LOCK})")


def _rules() -> dict[str, str]:
    """What the databases say when a unique rule is hit, and the rule: PostgreSQL names the
    index, SQLite its columns."""
    found: dict[str, str] = {}
    for table in schema.metadata.tables.values():
        for index in table.indexes:
            if "rule" in index.info:
                found[f'"{index.name}"'] = found[_columns(index)] = index.info["rule"]
    return found


def _columns(index: Index) -> str:
    return "failed: " + ", ".join(f"{column.table.name}.{column.name}" for column in index.columns)


_RULES = _rules()


def _translate(context: ExceptionContext) -> CatalogueError | None:
    """The drivers' errors in this program's words; a mistake in a statement stays what it is."""
    if context.is_pre_ping:
        return None  # the pool itself sees to a connection that was lost while nobody used it
    error, original = context.sqlalchemy_exception, context.original_exception
    if not isinstance(error, DBAPIError):
        if not isinstance(original, LOST):
            return None
        context.is_disconnect = True  # SQLAlchemy does not know it for one, and would keep it
        return CatalogueError(f"the connection is lost: {_said(original)}")
    message = str(original)
    if isinstance(error, IntegrityError):
        for said, rule in _RULES.items():
            if said in message:
                return Conflict(rule)
    return CatalogueError(f"the database refused: {message}")


def _said(error: BaseException) -> str:
    """What an error says; its name where it says nothing, as a TimeoutError."""
    return str(error) or type(error).__name__
