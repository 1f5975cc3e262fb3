"""JSON lines between the daemon and the processes that it starts.

A child reads its standard input and writes its standard output; logs go to standard error. When
the input ends, the daemon is dead, and the child ends at once: nothing of a dead daemon works on.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator

LINE_BYTES_MAX = 1 << 20

Message = dict[str, object]


def encode(message: Message) -> bytes:
    """One line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def tell(message: Message) -> None:
    """Writes a line to the daemon. A line is short enough for a pipe to take it at once."""
    sys.stdout.buffer.write(encode(message))
    sys.stdout.buffer.flush()


async def orders() -> AsyncIterator[Message]:
    """What the daemon asks for, line by line. Does not return: the process ends with its input,
    without any clean-up, as it would by a kill."""
    reader = asyncio.StreamReader(limit=LINE_BYTES_MAX)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield json.loads(line)
    os._exit(0)
