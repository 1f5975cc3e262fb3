"""Pings for the service manager's watchdog, each of them earned: the parts that the daemon is of no
use without have answered right before it.

The event loop answers by running this at all. The engine answers by coming round to look for work,
and the peer listener as it does to a peer, by the greeting of ssh. The exporters share its port,
and a caller meets one of them by chance; so each is also asked by its own line. What does not
answer has hung, for what fails is seen to elsewhere: children are started anew, and a catalogue
that is gone is waited for. So the cure is the manager's: it ends the daemon and starts it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from daemon import logs
from daemon.children import Child
from daemon.config_types import Address
from daemon.notify import Manager

GREETING = b"SSH-2.0-"
LOOKS = 4
"""In the time after which the manager loses its patience."""

log = logs.get(__name__)


class Lifeline:
    """By which a child, and each that takes its place, is asked whether it lives. Its event loop
    answers."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._child: Child | None = None
        self._has_spoken = False
        self._answered = asyncio.Event()

    def started(self, child: Child) -> None:
        """A new one, so the last one has ended and not hung. It is not asked before it has said
        something: that it is ready."""
        self._child = child
        self._has_spoken = False
        self._answered.set()

    def heard(self) -> None:
        """It has said something, whatever that is."""
        self._has_spoken = True
        self._answered.set()

    async def answers(self, limit_seconds: float) -> bool:
        """Whether it says something within the limit. Who starts, or has ended, has not hung."""
        child = self._child
        if child is None or not (child.alive and self._has_spoken):
            return True
        self._answered.clear()
        child.tell({"alive": True})
        try:
            async with asyncio.timeout(limit_seconds):
                await self._answered.wait()
        except TimeoutError:
            return False
        return True


class Watchdog:
    """Looks at the parts of one daemon for as long as the manager watches it."""

    def __init__(
        self,
        manager: Manager,
        engine_silent_seconds: Callable[[], float],
        peer_listen: Address,
        exporters: Sequence[Lifeline],
    ) -> None:
        """`engine_silent_seconds` says for how long the engine has not come round."""
        self._manager = manager
        self._engine_silent_seconds = engine_silent_seconds
        self._peer_listen = peer_listen
        self._exporters = exporters

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
        """The parts that do not answer. Listener and exporters have a share of the patience; the
        engine may wait for the catalogue meanwhile, and has all of it."""
        limit_seconds = patience_seconds / LOOKS
        greeted, *answered = await asyncio.gather(
            greets(self._peer_listen, limit_seconds),
            *(exporter.answers(limit_seconds) for exporter in self._exporters),
        )
        silent = []
        if self._engine_silent_seconds() > patience_seconds:
            silent.append("engine")
        if not greeted:
            silent.append("peer listener")
        lives = zip(self._exporters, answered, strict=True)
        return silent + [exporter.name for exporter, alive in lives if not alive]


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
