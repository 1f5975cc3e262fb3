"""One daemon a server id, whoever else uses the catalogue."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from postgres import Postgres

from daemon.errors import CatalogueError, StartError
from daemon.model import new_id
from daemon.store.sole import sole

HOLDER = """
import asyncio, sys
from daemon.store.sole import sole

async def main():
    async with sole(*sys.argv[1:]):
        print("held", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""
ROOT = Path(__file__).parents[3]


async def test_a_second_daemon_of_one_id_is_refused(url: str) -> None:
    server_id = new_id()
    for _ in range(2):
        async with sole(url, server_id):
            with pytest.raises(StartError, match=server_id):
                async with sole(url, server_id):
                    pass
            async with sole(url, new_id()):
                pass


async def test_the_lock_dies_with_its_daemon(url: str) -> None:
    server_id = new_id()
    command = [sys.executable, "-c", HOLDER, url, server_id]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={"PYTHONPATH": ROOT}) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StartError):
            async with sole(url, server_id):
                pass
        holder.kill()
    await _until_free(url, server_id)


async def _until_free(url: str, server_id: str) -> None:
    """PostgreSQL notices the end of a connection soon, not at once."""
    for _ in range(1000):
        try:
            async with sole(url, server_id):
                return
        except StartError:
            continue
    pytest.fail("the lock outlived its daemon")


async def test_a_lock_that_is_held_is_held(url: str) -> None:
    server_id = new_id()
    async with sole(url, server_id) as lock:
        for _ in range(2):
            await lock.check()
        with pytest.raises(StartError):
            async with sole(url, server_id):
                pass


# --- a lock that is lost: only PostgreSQL's can be -----------------------------------------------


@pytest.fixture
async def admin(postgres: Postgres) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(postgres.url("template"))
    yield connection
    await connection.close()


async def cut(admin: asyncpg.Connection) -> None:
    """Ends every daemon's connection with a lock; returns when PostgreSQL has let go of it."""
    locks = "SELECT pid FROM pg_stat_activity WHERE application_name = 'hoodyd lock'"
    assert await admin.fetchval(f"SELECT count(pg_terminate_backend(pid)) FROM ({locks}) AS held")
    while await admin.fetchval(locks) is not None:
        continue


@pytest.mark.postgres
async def test_a_lost_lock_is_taken_again(postgres: Postgres, admin: asyncpg.Connection) -> None:
    address, server_id = postgres.url("template"), new_id()
    async with sole(address, server_id) as lock:
        for _ in range(2):
            await cut(admin)
            await lock.check()
            with pytest.raises(StartError):
                async with sole(address, server_id):
                    pass
    async with sole(address, server_id):
        pass


@pytest.mark.postgres
async def test_who_lost_the_lock_to_another_daemon_is_told(
    postgres: Postgres, admin: asyncpg.Connection
) -> None:
    address, server_id = postgres.url("template"), new_id()
    async with sole(address, server_id) as lock:
        await cut(admin)
        async with sole(address, server_id) as other:
            for _ in range(2):
                with pytest.raises(StartError, match=server_id):
                    await lock.check()
            await other.check()
        await lock.check()


@pytest.mark.postgres
async def test_while_there_is_no_database_the_lock_is_nobodys(postgres: Postgres) -> None:
    address, server_id = postgres.url("template"), new_id()
    async with sole(address, server_id) as lock:
        postgres.stop()
        try:
            for _ in range(2):
                with pytest.raises(CatalogueError):
                    await lock.check()
        finally:
            postgres.start()
        await lock.check()


async def test_no_database_is_a_catalogue_error() -> None:
    with pytest.raises(CatalogueError):
        async with sole("postgresql://hoody@127.0.0.1:1/none", new_id()):
            pass
