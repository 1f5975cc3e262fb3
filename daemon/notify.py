"""What the daemon tells the service manager that started it: the protocol of sd_notify(3).

A message is a datagram of `KEY=value` lines to the socket that `NOTIFY_SOCKET` names. Without
that variable nobody listens, and nothing is sent.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

from daemon import logs

SEND_SECONDS = 1.0
"""How long a manager that reads nothing may hold the daemon up."""

log = logs.get(__name__)


class Manager:
    """The service manager. `watchdog_seconds` is the longest pause between two `WATCHDOG=1` that
    it lets pass; None where it does not watch."""

    def __init__(self, address: str = "", watchdog_seconds: float | None = None) -> None:
        self._address = address
        self.watchdog_seconds = watchdog_seconds

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> Manager:
        """The manager that these variables name. They are taken out: a child would inherit them,
        and what it said would be taken for the daemon's word."""
        address = environ.pop("NOTIFY_SOCKET", "")
        microseconds = environ.pop("WATCHDOG_USEC", "")
        watched = environ.pop("WATCHDOG_PID", str(os.getpid()))
        if not address.startswith(("/", "@")):
            return cls()
        if not (microseconds.isdigit() and int(microseconds) and watched == str(os.getpid())):
            return cls(address)
        return cls(address, int(microseconds) / 1e6)

    def tell(self, *states: str) -> None:
        """Sends `KEY=value` lines, as one message. A manager that cannot be reached is logged and
        ends nothing."""
        if not self._address:
            return
        # "@" stands for the zero byte that an abstract name begins with.
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.settimeout(SEND_SECONDS)
                channel.sendto("\n".join(states).encode(), address)
        except OSError as error:
            log.warning("the service manager does not hear", told=states[0], reason=str(error))
