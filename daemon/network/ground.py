"""Where containers are on the network. Every name is made from the id of what it belongs to, so
that two daemons on one machine never meet, and that whoever comes later finds what is there."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

NAMESPACES = "/run/netns"
"""Where `ip netns` keeps its namespaces."""

INSIDE = "eth0"
"""What a container calls its network card."""


@dataclass(frozen=True, slots=True)
class Ground:
    """A server's bridge, with its network. The bridge has the network's first address, and is the
    way out for its containers."""

    server_id: str
    network: IPv4Network

    @property
    def bridge(self) -> str:
        """The bridge's name."""
        return f"hb-{_short(self.server_id)}"

    @property
    def mac(self) -> str:
        """The bridge's hardware address."""
        return _mac(self.server_id)

    @property
    def gateway(self) -> IPv4Address:
        """The bridge's address."""
        return self.network[1]

    @property
    def table(self) -> str:
        """The name of its table of rules, which all its containers need."""
        return f"hoody_server_{self.server_id}"


@dataclass(frozen=True, slots=True)
class Seat:
    """A container's place on its server's bridge."""

    container_id: str
    address: IPv4Address

    @property
    def mac(self) -> str:
        """The hardware address of its card."""
        return _mac(self.container_id)


def namespace(container_id: str) -> str:
    """The name of a container's network namespace, as `ip netns` knows it."""
    return f"hoody-{container_id}"


def namespace_path(container_id: str) -> str:
    """Its path, by which others join it."""
    return f"{NAMESPACES}/{namespace(container_id)}"


def port(container_id: str) -> str:
    """The name of the server's end of a container's veth."""
    return f"hv-{_short(container_id)}"


def table(container_id: str) -> str:
    """The name of a container's tables: its own rules, and what keeps it from being another."""
    return f"hoody_{container_id}"


def _short(id_: str) -> str:
    """Twelve digits, for the name of an interface has 15 characters at most. A digest and not a
    part: ids that somebody chose may differ in any place."""
    return hashlib.blake2s(id_.encode(), digest_size=6).hexdigest()


def _mac(id_: str) -> str:
    """A unicast address of those that anybody may give (02:…)."""
    digits = _short(id_)
    return ":".join(["02", *(digits[at : at + 2] for at in range(0, 10, 2))])
