"""The part of systemd that the daemon talks to: the socket of sd_notify(3), and the watchdog."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

MESSAGE_BYTES_MAX = 4096
WAIT_SECONDS = 120.0


class Listener:
    """A manager's socket at `address`: a path, or an abstract name that begins with "@"."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._channel.bind("\0" + address[1:] if address.startswith("@") else address)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._channel.close()
        if not self.address.startswith("@"):
            Path(self.address).unlink()

    def hear(self, seconds: float = WAIT_SECONDS) -> list[str]:
        """The lines of the next message. Raises TimeoutError."""
        self._channel.settimeout(seconds)
        return self._channel.recv(MESSAGE_BYTES_MAX).decode().split("\n")

    def hear_until(self, state: str) -> list[str]:
        """The lines of all messages up to the one that says this."""
        heard: list[str] = []
        deadline = time.monotonic() + WAIT_SECONDS
        while state not in heard:
            assert time.monotonic() < deadline, f"no {state} in {heard}"
            heard += self.hear()
        return heard

    def rest(self) -> list[str]:
        """The lines of all messages that are here already."""
        heard: list[str] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                heard += self.hear(0)
        return heard

    def out_of_patience(self, patience_seconds: float) -> list[str]:
        """Waits as the manager does, until there is no ping for so long; what was said instead."""
        said: list[str] = []
        deadline = time.monotonic() + WAIT_SECONDS
        pinged = time.monotonic()
        while (left := pinged + patience_seconds - time.monotonic()) > 0:
            assert pinged < deadline, "it goes on pinging"
            with contextlib.suppress(TimeoutError):
                heard = self.hear(left)
                said += heard
                if "WATCHDOG=1" in heard:
                    pinged, said = time.monotonic(), []
        return said


@contextmanager
def watching(listener: Listener, patience_seconds: float) -> Iterator[None]:
    """What is started in the body is a service of this manager, which has so much patience."""
    variables = {
        "NOTIFY_SOCKET": listener.address,
        "WATCHDOG_USEC": str(int(patience_seconds * 1e6)),
        "PYTHONFAULTHANDLER": "1",  # as the unit has it
    }
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]
