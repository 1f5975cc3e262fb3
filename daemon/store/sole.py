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

import asyncpg  # type: ignore[import-untyped]  # it ships no types
from sqlalchemy import make_url

from daemon.errors import CatalogueError, StartError
from daemon.store.database import WAIT_SECONDS


@asynccontextmanager
async def sole(url: str, server_id: str) -> AsyncIterator[None]:
    """Holds the lock of this server id for as long as the block runs.

    Raises StartError where another daemon has it, CatalogueError without a database.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        held = asyncio.to_thread(_lock_file, f"{parsed.database}.{server_id}.lock", server_id)
        descriptor = await held
        try:
            yield
        finally:
            os.close(descriptor)
        return
    connection = await _lock_session(url, server_id)
    try:
        yield
    finally:
        await connection.close(timeout=WAIT_SECONDS)


def _lock_file(path: str, server_id: str) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise _taken(server_id) from None
    return descriptor


async def _lock_session(url: str, server_id: str) -> asyncpg.Connection:
    """A session advisory lock: PostgreSQL lets go of it when the connection ends."""
    digest = hashlib.sha256(f"hoody daemon {server_id}".encode()).digest()
    key = int.from_bytes(digest[:8], "big", signed=True)
    try:
        connection = await asyncpg.connect(url, timeout=WAIT_SECONDS)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise CatalogueError(f"no connection to PostgreSQL: {error}") from error
    if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", key):
        await connection.close()
        raise _taken(server_id)
    return connection


def _taken(server_id: str) -> StartError:
    return StartError(f"server.id: another daemon runs as server {server_id}; stop it first")
