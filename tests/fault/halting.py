"""Exporters that halt in mid-stream where a test says so: what it does there is done in the
middle, however fast or busy the machine is.

While the file `halt` lies beside the config, each channel waits once it has sent as many bytes as
the file says.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from weakref import WeakKeyDictionary

from transfer.peer.server import ServerChannel

ORDER = "halt"
POLL_SECONDS = 0.02


def halt_streams(order: Path) -> None:
    """Has every channel of this process look for the order before it sends."""
    send = ServerChannel.send
    sent_bytes: WeakKeyDictionary[ServerChannel, int] = WeakKeyDictionary()

    async def halting(channel: ServerChannel, data: bytes) -> None:
        sent = sent_bytes.get(channel, 0)
        while (limit := _ordered(order)) is not None and sent >= limit:
            await asyncio.sleep(POLL_SECONDS)
        sent_bytes[channel] = sent + len(data)
        await send(channel, data)

    ServerChannel.send = halting  # type: ignore[method-assign,assignment]  # the stage


def _ordered(order: Path) -> int | None:
    try:
        return int(order.read_text())
    except FileNotFoundError:
        return None
