"""Word of what was written, from every server to every other: PostgreSQL's NOTIFY and LISTEN.

An announcement goes out with the commit of its transaction, once however often it was made, and
says nothing but that there is something to read. SQLite has no such thing: who waits there polls.
"""

from __future__ import annotations

import asyncio

import asyncpg  # type: ignore[import-untyped]  # it ships no types
from sqlalchemy import func, make_url, select

from daemon import logs
from daemon.news import News
from daemon.store.database import LOST, WAIT_SECONDS, Tx

CHANNEL = "hoody"
AGAIN_SECONDS = 1.0
"""Between two tries to connect: a PostgreSQL that starts is not asked more often."""
PROBE_SECONDS = 15.0
"""How often a connection that says nothing is asked whether it still lives."""

log = logs.get(__name__)


async def announce(tx: Tx) -> None:
    """Tell every server, once this transaction is committed, that something has changed."""
    if tx.dialect.name == "postgresql":
        await tx.execute(select(func.pg_notify(CHANNEL, "")))


async def listen(url: str, news: News) -> None:
    """Turns announcements into news, for ever; on SQLite, which has none, returns at once.

    While the connection is gone `news.complete` says so; once it is back everybody looks, for
    what was announced meanwhile was not heard.
    """
    if make_url(url).get_backend_name() != "postgresql":
        return
    while True:
        try:
            await _until_lost(url, news)
        except LOST as error:
            log.warning("changes are polled for: nothing announces them now", reason=str(error))
        await asyncio.sleep(AGAIN_SECONDS)


async def _until_lost(url: str, news: News) -> None:
    settings = {"application_name": "hoodyd listener"}
    connection = await asyncpg.connect(url, timeout=WAIT_SECONDS, server_settings=settings)
    lost = asyncio.Event()
    connection.add_termination_listener(lambda _connection: lost.set())
    try:
        await connection.add_listener(CHANNEL, lambda *_announcement: news.tell())
        news.complete = True
        news.tell()
        while not await _happens(lost, PROBE_SECONDS):
            await connection.execute("SELECT 1", timeout=WAIT_SECONDS)
        raise ConnectionError("PostgreSQL ended the connection")
    finally:
        news.complete = False
        connection.terminate()


async def _happens(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event is there within this time."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
