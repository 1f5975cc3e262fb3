"""Exporters that halt in mid-stream where a test says so: what it does there is done in the
middle, however fast or busy the machine is.

While the file `halt` lies beside the config, each stream waits once its exporter has sent as many
bytes of content as the file says, since it was put there.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from weakref import WeakKeyDictionary

from transfer.peer.server import ServerChannel

ORDER = "halt"
POLL_SECONDS = 0.02
CONTENT_BYTES = 256 << 10  # a channel that has sent less may only be answering a question


class Order:
    """The order that is there, if any, and how much was sent since it came."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = (0, 0)
        self._sent_bytes = 0

    def count(self, size_bytes: int) -> None:
        """So much was sent."""
        self._sent_bytes += size_bytes

    def holds(self) -> bool:
        """Whether no more content may be sent now."""
        try:
            found = self._path.stat()
            limit_bytes = int(self._path.read_text())
        except FileNotFoundError:
            return False
        if self._known != (found.st_ino, found.st_mtime_ns):
            self._known = (found.st_ino, found.st_mtime_ns)
            self._sent_bytes = 0
        return self._sent_bytes >= limit_bytes


def halt_streams(path: Path) -> None:
    """Has every channel of this process look for the order before it sends."""
    send = ServerChannel.send
    order = Order(path)
    sent_bytes: WeakKeyDictionary[ServerChannel, int] = WeakKeyDictionary()

    async def halting(channel: ServerChannel, data: bytes) -> None:
        sent = sent_bytes.get(channel, 0)
        while sent >= CONTENT_BYTES and order.holds():
            await asyncio.sleep(POLL_SECONDS)
        sent_bytes[channel] = sent + len(data)
        order.count(len(data))
        await send(channel, data)

    ServerChannel.send = halting  # type: ignore[method-assign,assignment]  # the stage
