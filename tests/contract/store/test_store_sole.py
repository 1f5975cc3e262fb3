"""One daemon a server id, whoever else uses the catalogue."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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


async def test_no_database_is_a_catalogue_error() -> None:
    with pytest.raises(CatalogueError):
        async with sole("postgresql://hoody@127.0.0.1:1/none", new_id()):
            pass
