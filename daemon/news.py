"""Word that the catalogue may have changed, for those who would otherwise only poll it.

Who tells: the API of this process, for what it wrote; on PostgreSQL also `store/listen.py`, for
what any server wrote, while its connection holds. SQLite has no way to tell other processes, so a
wait always has a limit and who waits looks again at its end.
"""

from __future__ import annotations

import asyncio


class News:
    """Counts tidings. Read `count`, then the catalogue, then wait for tidings after that count:
    so nothing that comes in between is missed."""

    def __init__(self) -> None:
        self.count = 0
        self.complete = False
        """Whether every write of every server is told now, so that there is little to poll for."""
        self._next = asyncio.Event()

    def tell(self) -> None:
        """Something may have changed."""
        self.count += 1
        self._next.set()
        self._next = asyncio.Event()

    async def after(self, count: int, seconds: float) -> None:
        """Returns once there are tidings after `count`, or when the time is over."""
        if self.count != count:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._next.wait()
        except TimeoutError:
            return
