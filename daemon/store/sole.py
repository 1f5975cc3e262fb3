"""One daemon a server id: a lock beside the catalogue that dies with the daemon.

The lock in the state directory keeps two daemons with one directory apart. This one keeps apart
two with one id: a config, or a directory, that was copied to a second machine.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import asyncpg  # type: ignore[import-untyped]  # it ships no types
from sqlalchemy import make_url

from daemon import logs
from daemon.errors import CatalogueError, StartLater
from daemon.store.database import LOST, WAIT_SECONDS

log = logs.get(__name__)


class Lock(Protocol):
    """The lock of a server id."""

    async def check(self) -> None:
        """Make sure that it is held: one that was lost is taken again.

        Raises StartLater where another daemon has it now, CatalogueError without a database:
        then nobody can take it.
        """


@asynccontextmanager
async def sole(url: str, server_id: str) -> AsyncIterator[Lock]:
    """Holds the lock of this server id for as long as the block runs.

    Raises StartLater where another daemon has it, CatalogueError without a database.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        lock = _FileLock(f"{parsed.database}.{server_id}.lock", server_id)
        await asyncio.to_thread(lock.take)
        try:
            yield lock
        finally:
            lock.close()
        return
    session = _SessionLock(url, server_id)
    await session.take()
    try:
        yield session
    finally:
        await session.close()


class _FileLock:
    """A lock on a file beside the catalogue: it is held until the file is closed."""

    def __init__(self, path: str, server_id: str) -> None:
        self._path = path
        self._server_id = server_id

    def take(self) -> None:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise _taken(self._server_id) from None
        self._descriptor = descriptor

    async def check(self) -> None:
        """Nobody can take it from the process that holds it."""

    def close(self) -> None:
        os.close(self._descriptor)


class _SessionLock:
    """A session advisory lock: PostgreSQL lets go of it when the connection ends, which it may
    do at any time: at its restart, say, or when the network is gone."""

    def __init__(self, url: str, server_id: str) -> None:
        self._url = url
        self._server_id = server_id
        digest = hashlib.sha256(f"hoody daemon {server_id}".encode()).digest()
        self._key = int.from_bytes(digest[:8], "big", signed=True)

    async def take(self) -> None:
        settings = {"application_name": "hoodyd lock"}
        try:
            connection = await asyncpg.connect(
                self._url, timeout=WAIT_SECONDS, server_settings=settings
            )
            taken = await connection.fetchval(
                "SELECT pg_try_advisory_lock($1)", self._key, timeout=WAIT_SECONDS
            )
        except LOST as error:
            raise CatalogueError(f"no connection to PostgreSQL: {error}") from error
        if not taken:
            await connection.close()
            raise _taken(self._server_id)
        self._connection = connection

    async def check(self) -> None:
        """As `Lock` says."""
        try:
            await self._connection.execute("SELECT 1", timeout=WAIT_SECONDS)
        except LOST as error:
            self._connection.terminate()
            await self.take()
            log.warning("the lock of this server id was lost and taken again", reason=str(error))

    async def close(self) -> None:
        await self._connection.close(timeout=WAIT_SECONDS)


def _taken(server_id: str) -> StartLater:
    # PostgreSQL may take a while to notice that the machine of an earlier daemon lost its power.
    return StartLater(f"server.id: another daemon runs as server {server_id}; stop it first")
