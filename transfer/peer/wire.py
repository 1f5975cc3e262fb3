"""What the kernel knows of a connection's wire."""

from __future__ import annotations

import socket
import struct
from typing import Protocol

# `struct tcp_info` (linux/tcp.h) up to tcpi_rwnd_limited; the two counters came with Linux 4.10.
_INFO = struct.Struct("=168xQQ")


class Connection(Protocol):
    """What is used of a socket."""

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        """See `socket.getsockopt`."""
        ...


def busy_seconds(connection: Connection) -> float | None:
    """For how long, up to now, something was on its way or waited to be sent while the other side
    had room for it; None where the kernel does not say."""
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
    except OSError:
        return None
    if len(info) < _INFO.size:
        return None
    busy, no_room = _INFO.unpack(info)
    return float(busy - no_room) / 1e6
