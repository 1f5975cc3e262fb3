"""Pings for the service manager's watchdog, each of them earned: the parts that the daemon is of no
use without have answered right before it.

The event loop answers by running this at all. The engine answers by coming round to look for work,
and the peer listener as it does to a peer, by the greeting of ssh. What does not answer has hung,
for what fails is seen to elsewhere: children are started anew, and a catalogue that is gone is
waited for. So the cure is the manager's: it ends the daemon and starts it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from daemon import logs
from daemon.config_types import Address
from daemon.notify import Manager

GREETING = b"SSH-2.0-"
LOOKS = 4
"""In the time after which the manager loses its patience."""

log = logs.get(__name__)


class Watchdog:
    """Looks at the parts of one daemon for as long as the manager watches it."""

    def __init__(
        self, manager: Manager, engine_silent_seconds: Callable[[], float], peer_listen: Address
    ) -> None:
        """`engine_silent_seconds` says for how long the engine has not come round."""
        self._manager = manager
        self._engine_silent_seconds = engine_silent_seconds
        self._peer_listen = peer_listen

    async def run(self) -> None:
        """Pings while all is well; returns at once where nobody watches."""
        patience_seconds = self._manager.watchdog_seconds
        if patience_seconds is None:
            return
        was_well = True
        while True:
            silent = await self.silent_parts(patience_seconds)
            if not silent:
                self._manager.tell("WATCHDOG=1", *(() if was_well else ("STATUS=ready",)))
            else:
                log.error("no answer", parts=silent)
                self._manager.tell(f"STATUS=no answer from {' and '.join(silent)}")
            was_well = not silent
            await asyncio.sleep(patience_seconds / LOOKS)

    async def silent_parts(self, patience_seconds: float) -> list[str]:
        """The parts that do not answer. The listener has a share of the patience; the engine may
        wait for the catalogue meanwhile, and has all of it."""
        silent = []
        if self._engine_silent_seconds() > patience_seconds:
            silent.append("engine")
        if not await greets(self._peer_listen, patience_seconds / LOOKS):
            silent.append("peer listener")
        return silent


async def greets(listen: Address, limit_seconds: float) -> bool:
    """Whether who listens there begins as an ssh server does, within the limit. Linux takes a
    wildcard, as the address of whom to call, for this machine."""
    try:
        async with asyncio.timeout(limit_seconds):
            reader, writer = await asyncio.open_connection(listen.host, listen.port)
            try:
                return await reader.readexactly(len(GREETING)) == GREETING
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return False
