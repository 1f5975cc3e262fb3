"""Pure: a container's rules as nft reads them. Each text replaces its table whole, in the same
transaction as what it is put together with: no packet meets half of it.

The rules stand on the server's side of the veth, where a container's root cannot reach round them:
docker's default capabilities have NET_RAW, and a packet socket passes by the hooks of its own
namespace.
Containers of one bridge reach each other through the server's stack too (see `guard_text`), so one
set of hooks sees all of a container's packets: forward, and input and output for the server itself.

Who asks is judged, packet by packet, by the rules as they stand; who answers is not. So a rule that
denies ends a connection that was allowed before.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from daemon.model import Json
from daemon.network import ground
from daemon.network.ground import Ground, Seat

_LOOPBACK = "127.0.0.0/8"
_PEER = {"in": "saddr", "out": "daddr"}
_VERDICTS = {"allow": "return", "deny": "drop"}  # `return`: the packet may have another end to pass


@dataclass(frozen=True, slots=True)
class Forward:
    """A port of the server that leads to a port of a container."""

    protocol: str
    host_port: int
    container_port: int

    @property
    def taken(self) -> str:
        """What no other forward may have, as it is noted beside the rule."""
        return f"{self.protocol}/{self.host_port}"


def forwards(network_rules: Iterable[Json]) -> tuple[Forward, ...]:
    """What a container's network rules ask for."""
    return tuple(
        Forward(
            str(rule["protocol"]), int(str(rule["host_port"])), int(str(rule["container_port"]))
        )
        for rule in network_rules
    )


def server_text(here: Ground) -> str:
    """What all containers of the bridge need: a way out, under the server's own address, and that
    nobody outside takes theirs."""
    network, bridge = here.network, here.bridge
    return _table(
        "ip",
        here.table,
        _chain(
            "foreign",
            "type filter hook prerouting priority raw",
            [f'iifname != {{ "lo", "{bridge}" }} ip saddr {network} drop'],
        ),
        _chain(
            "outwards",
            "type nat hook postrouting priority srcnat",
            [f'ip saddr {network} oifname != "{bridge}" masquerade'],
        ),
    )


def guard_text(here: Ground, seat: Seat) -> str:
    """What a container's port lets in: IPv4 from its own address to the server's stack, and the
    questions and answers that belong to it. All else is dropped, IPv6 too."""
    sender = f"arp saddr ether {seat.mac} arp saddr ip {seat.address}"
    return _table(
        "netdev",
        ground.table(seat.container_id),
        _chain(
            "guard",
            f'type filter hook ingress device "{ground.port(seat.container_id)}" priority -500',
            [
                f"ether saddr != {seat.mac} drop",
                f"ether daddr {here.mac} ip saddr {seat.address} ip daddr != {_LOOPBACK} accept",
                f"arp operation request {sender} arp daddr ip {here.gateway} accept",
                f"arp operation reply {sender} accept",
            ],
            policy="drop",
        ),
    )


def container_text(
    seat: Seat, firewall_rules: Sequence[Json], open_forwards: Iterable[Forward]
) -> str:
    """The container's own table: its firewall rules, and its forwards."""
    address = seat.address
    to_it, from_it = f"ip daddr {address} jump in", f"ip saddr {address} jump out"
    inwards = [_forward(one, address) for one in open_forwards]
    return _table(
        "ip",
        ground.table(seat.container_id),
        *(_side(side, firewall_rules) for side in ("in", "out")),
        _chain("forward", "type filter hook forward priority filter", [from_it, to_it]),
        _chain("input", "type filter hook input priority filter", [from_it]),
        _chain("output", "type filter hook output priority filter", [to_it]),
        _chain("forwards", "type nat hook prerouting priority dstnat", inwards),
        _chain(
            # Not from 127.0.0.1: the answers would have to come in from the bridge to a loopback
            # address, and what allows that (route_localnet) opens the server's own loopback to
            # containers, as soon as somebody flushes the rules that stand before it.
            "forwards_of_server",
            "type nat hook output priority -100",
            [f"ip daddr != {_LOOPBACK} {one}" for one in inwards],
        ),
        _chain(
            # What comes to itself by a port of the server would have its own address as sender.
            "hairpin",
            "type nat hook postrouting priority srcnat",
            [f"ip saddr {address} ip daddr {address} masquerade"],
        ),
    )


def removal_text(family: str, name: str) -> str:
    """Removes a table, also where it is not there."""
    return f"add table {family} {name}\ndelete table {family} {name}\n"


def _side(side: str, rules: Sequence[Json]) -> str:
    lines = [_rule(rule) for rule in rules if rule["direction"] == side]
    answers = ["ct direction reply return", "ct state related return"]
    return _chain(side, None, [*answers, *(line for line in lines if line is not None)])


def _rule(rule: Json) -> str | None:
    """One firewall rule; None where it is about IPv6, of which a container gets none."""
    parts = [_what(rule)]
    if rule["cidr"] is not None:
        network = ipaddress.ip_network(str(rule["cidr"]))
        if network.version != 4:
            return None
        parts.append(f"ip {_PEER[str(rule['direction'])]} {network}")
    return " ".join([*(part for part in parts if part), _VERDICTS[str(rule["action"])]])


def _what(rule: Json) -> str:
    """The protocol and the port that packets go to."""
    protocol = str(rule["protocol"])
    if rule["ports"] is None:
        return "" if protocol == "any" else f"meta l4proto {protocol}"
    first, _, last = str(rule["ports"]).partition("-")
    ports = first if last in ("", first) else f"{first}-{last}"  # older nft refuse 80-80
    if protocol == "any":
        return f"meta l4proto {{ tcp, udp }} th dport {ports}"
    return f"{protocol} dport {ports}"


def _forward(one: Forward, address: ipaddress.IPv4Address) -> str:
    return (
        f"fib daddr type local {one.protocol} dport {one.host_port} "
        f'dnat to {address}:{one.container_port} comment "{one.taken}"'
    )


def _chain(name: str, hook: str | None, rules: Sequence[str], policy: str = "accept") -> str:
    base = [f"{hook}; policy {policy};"] if hook else []
    return "".join([f"chain {name} {{\n", *(f"{line}\n" for line in (*base, *rules)), "}\n"])


def _table(family: str, name: str, *chains: str) -> str:
    """The table with these chains and no other rules in them."""
    head = f"add table {family} {name}\nflush table {family} {name}\n"
    return "".join([head, f"table {family} {name} {{\n", *chains, "}\n"])
