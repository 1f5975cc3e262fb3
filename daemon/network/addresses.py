"""Which container has which address: a file, so that a container keeps its address over stops,
restarts of the daemon and reboots. Who changes it holds the lock of the network.

Nothing needs to be told when a container is gone. A new one gets an address that nobody has had
yet; when there is none left, the one that has been out of use for longest.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network

from daemon.errors import JobError
from daemon.runtime.places import write_down

ADDRESSES_MAX = 65_533
"""As many as a /16 has for containers; of a larger network only these are used."""


class Addresses:
    """The file, with containers in the order of their last use."""

    def __init__(self, path: str, network: IPv4Network) -> None:
        self._path = path
        self._network = network

    def of(self, container_id: str) -> IPv4Address | None:
        """The container's address, where it has one."""
        text = self._read().get(container_id)
        return IPv4Address(text) if text is not None else None

    def holders(self) -> list[str]:
        """The containers that have one."""
        return list(self._read())

    def choose(self, container_id: str, in_use: Callable[[str], bool]) -> IPv4Address:
        """The container's address, chosen now where it has none. Raises JobError START_FAILED
        where all are in use."""
        known = self._read()
        text = known.pop(container_id, None) or self._free(known, in_use)
        write_down(self._path, {**known, container_id: text})
        return IPv4Address(text)

    def _free(self, known: dict[str, str], in_use: Callable[[str], bool]) -> str:
        """An address that is not in `known`, or is taken out of it."""
        taken = set(known.values())
        last = min(self._network.num_addresses - 2, ADDRESSES_MAX + 1)
        for place in range(2, last + 1):  # the first is the bridge's
            if (text := str(self._network[place])) not in taken:
                return text
        for container_id in known:
            if not in_use(container_id):
                return known.pop(container_id)
        raise JobError("START_FAILED", f"runtime.network: {self._network} has no address left")

    def _read(self) -> dict[str, str]:
        """What the file says of this network; the rest is of another one, from before."""
        try:
            with open(self._path, encoding="ascii") as file:
                said: dict[str, str] = json.load(file)
        except FileNotFoundError:
            return {}
        return {one: text for one, text in said.items() if IPv4Address(text) in self._network}
