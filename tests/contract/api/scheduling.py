"""A daemon's part that carries out schedules, and dies of it:
`scheduling.py URL SERVER_ID TIME WRITES before|after`. It kills itself before, or after, the commit
of its transaction with this number."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

from daemon import scheduler
from daemon.config import Config, ServerSection
from daemon.store.database import Database, Tx


class Deadly(Database):
    """A catalogue to which no more than so many transactions write."""

    def __init__(self, url: str, writes: int, moment: str) -> None:
        super().__init__(url)
        self._left = writes
        self._moment = moment

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Tx]:
        self._left -= 1
        async with super().write() as tx:
            yield tx
            self._die("before")
        self._die("after")

    def _die(self, moment: str) -> None:
        if self._left == 0 and self._moment == moment:
            os.kill(os.getpid(), signal.SIGKILL)


async def main(url: str, server_id: str, at: str, writes: str, moment: str) -> None:
    db = Deadly(url, int(writes), moment)
    config = Config(server=ServerSection(id=server_id))
    await scheduler.sync_due(db, config, datetime.fromisoformat(at))
    await db.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
