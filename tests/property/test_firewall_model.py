"""Firewall rules as the kernel carries them out, against a plain model: the first that matches."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.model import Json, new_id
from daemon.network import ruleset
from daemon.network.ground import Seat
from tests.wires import OUTSIDE, SENTINEL, SERVER, Ports, Wires, opened, run

PORTS = (10, 11, 12, 20)
SPANS = ["10", "11", "20", "10-11", "11-12", "12-20", "10-10", "1-65535", None]
OTHER = "192.0.2.129"
PEERS = (SERVER, OTHER)
CIDRS = [None, "0.0.0.0/0", "192.0.2.0/25", "192.0.2.128/25", f"{SERVER}/32", "::/0"]
SEAT = Seat(new_id(), IPv4Address(OUTSIDE))
LAST: Json = {"action": "allow", "protocol": "udp", "ports": str(SENTINEL), "cidr": None}

rules = st.fixed_dictionaries(
    {
        "direction": st.sampled_from(["in", "out"]),
        "action": st.sampled_from(["allow", "deny"]),
        "protocol": st.sampled_from(["udp", "udp", "any", "tcp", "icmp"]),
        "ports": st.sampled_from(SPANS),
        "cidr": st.sampled_from(CIDRS),
    }
).map(lambda rule: {**rule, "ports": None} if rule["protocol"] == "icmp" else rule)


def passes(given_rules: list[Json], direction: str, peer: str, port: int) -> bool:
    """Whether a datagram passes: what the contract says, in few words."""
    for rule in given_rules:
        first, _, last = str(rule["ports"] or "0-65535").partition("-")
        matches = (
            rule["direction"] == direction
            and rule["protocol"] in ("udp", "any")
            and int(first) <= port <= int(last or first)
            and (rule["cidr"] is None or ip_address(peer) in ip_network(str(rule["cidr"])))
        )
        if matches:
            return rule["action"] == "allow"
    return True


@pytest.fixture(scope="module")
def wires() -> Iterator[Wires]:
    yield from opened()


class Site:
    """The world outside stands for a container, at the end of its cable; its peers are two
    addresses of the server."""

    def __init__(self, wires: Wires) -> None:
        run("ip", "address", "add", f"{OTHER}/24", "dev", "card")
        self.inside = Ports(wires, wires.outside, PORTS)
        self.sender = wires.udp(wires.outside, 4000)
        self.peers = {peer: Ports(wires, None, PORTS, peer) for peer in PEERS}
        self.senders = {peer: wires.udp(None, 4000, peer) for peer in PEERS}

    def load(self, given_rules: list[Json]) -> None:
        last = [LAST | {"direction": side} for side in ("in", "out")]
        run("nft", "-f", "-", text=ruleset.container_text(SEAT, [*last, *given_rules], ()))

    def reached(self, direction: str, peer: str) -> set[int]:
        if direction == "in":
            return self.inside.reached(self.senders[peer], OUTSIDE)
        return self.peers[peer].reached(self.sender, peer)


@pytest.fixture(scope="module")
def site(wires: Wires) -> Site:
    return Site(wires)


@settings(deadline=None)
@given(given_rules=st.lists(rules, max_size=6))
def test_the_kernel_does_what_the_contract_says(given_rules: list[Json], site: Site) -> None:
    site.load(given_rules)
    for direction in ("in", "out"):
        for peer in PEERS:
            expected = {port for port in PORTS if passes(given_rules, direction, peer, port)}
            assert site.reached(direction, peer) == expected, (direction, peer)
