"""A daemon whose lock in PostgreSQL is lost: it takes it again, or ends where another one runs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import cast

import asyncpg
import pytest

from tests.acceptance.cluster import Daemon, MakeCluster
from tests.postgres import serving

pytestmark = pytest.mark.postgres

ENDS_SECONDS = 60
HELD = "FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE application_name = 'hoodyd lock'"


@pytest.fixture(scope="module")
def backend() -> str:
    """Nothing here depends on the storage."""
    return "dir"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """An empty database."""
    with serving() as server:
        server.create("catalogue")
        yield server.url("catalogue")


@pytest.fixture
def daemon(make_cluster: MakeCluster, address: str) -> Daemon:
    settings = {"database": {"url": address}, "timing": {"heartbeat_seconds": 0.2}}
    return make_cluster(1, settings).daemons[0]


async def cut(admin: asyncpg.Connection) -> int:
    """Ends the session with the daemon's lock; its process id in PostgreSQL."""
    pid = cast("int", await admin.fetchval(f"SELECT pid {HELD} AND locktype = 'advisory'"))
    assert await admin.fetchval("SELECT pg_terminate_backend($1)", pid)
    return pid


async def test_a_daemon_takes_its_lock_again_and_ends_where_another_one_has_it(
    daemon: Daemon, address: str
) -> None:
    admin, rival = await asyncpg.connect(address), await asyncpg.connect(address)
    lost = await cut(admin)
    while await admin.fetchval(f"SELECT pid {HELD} AND pid <> $1 AND granted", lost) is None:
        await asyncio.sleep(0.01)
    assert await asyncio.to_thread(daemon.is_ready)

    key = "(classid::bigint << 32) | objid::bigint"
    wanted = await admin.fetchval(f"SELECT {key} {HELD} AND locktype = 'advisory'")
    taking = asyncio.create_task(rival.execute("SELECT pg_advisory_lock($1)", wanted))
    while not await admin.fetchval("SELECT 1 FROM pg_locks WHERE NOT granted"):
        await asyncio.sleep(0.01)
    await cut(admin)  # who waits for a lock gets it before anybody who asks later
    await taking
    assert daemon._process is not None
    assert await asyncio.to_thread(daemon._process.wait, ENDS_SECONDS) == 75
    said = daemon.log_tail(4000)
    assert f"another daemon runs as server {daemon.server_id}" in said
    assert "Traceback" not in said
    for connection in (admin, rival):
        await connection.close()
