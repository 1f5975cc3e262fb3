"""A container with a packet socket, which docker's default capabilities allow, is still no other
container, and does not get round its rules."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from daemon.network.ground import Seat
from tests.contract.network.sites import Site, Up, rule
from tests.wires import SERVER, Ports, Wires, run

IPV4, ARP = 0x0800, 0x0806
EVERYBODY = "ff:ff:ff:ff:ff:ff"


def frame(target: str, source: str, kind: int, payload: bytes) -> bytes:
    def plain(mac: str) -> bytes:
        return bytes.fromhex(mac.replace(":", ""))

    return plain(target) + plain(source) + struct.pack("!H", kind) + payload


def datagram(source: str, target: str, port: int) -> bytes:
    """An IPv4 packet with a UDP datagram, whose own checksum is left out."""
    udp = struct.pack("!HHHH", 4000, port, 12, 0) + b"word"
    addresses = socket.inet_aton(source) + socket.inet_aton(target)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 7, 0, 64, 17, 0) + addresses
    total = sum(struct.unpack("!10H", head))
    check = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return head[:10] + struct.pack("!H", check) + head[12:] + udp


def arp(operation: int, mac: str, address: str, target: str) -> bytes:
    words = struct.pack("!HHBBH", 1, IPV4, 6, 4, operation)
    sender = bytes.fromhex(mac.replace(":", "")) + socket.inet_aton(address)
    return words + sender + bytes(6) + socket.inet_aton(target)


def mac(up: Up) -> str:
    return Seat(up.container.id, IPv4Address(up.address)).mac


@pytest.fixture
async def two(site: Site) -> tuple[Up, Up]:
    return await site.up(), await site.up()


def spoken(site: Site, one: Up, other: Up) -> Iterator[tuple[str, str, str]]:
    """Frames that are not its own: target and source of the frame, source of the packet."""
    bridge = site.network._here.mac
    yield bridge, mac(one), other.address
    yield bridge, mac(one), "203.0.113.7"
    yield bridge, mac(other), one.address
    yield bridge, mac(other), other.address
    yield EVERYBODY, mac(one), one.address
    yield mac(other), mac(one), one.address


async def test_it_speaks_for_itself_alone(site: Site, wires: Wires, two: tuple[Up, Up]) -> None:
    one, other = two
    own, sender = wires.udp(one.path), wires.frames(one.path)
    for place, address in ((None, SERVER), (other.path, other.address)):
        listener = Ports(wires, place, [80])
        for target, source, speaker in spoken(site, one, other):
            sender.send(frame(target, source, IPV4, datagram(speaker, address, 80)))
            assert listener.before_last(own, address) == set(), (target, source, speaker)
        packet = datagram(one.address, address, 80)
        sender.send(frame(site.network._here.mac, mac(one), IPV4, packet))
        assert listener.before_last(own, address) == {80}, "a frame of its own"


async def test_it_does_not_get_round_its_rules(site: Site, wires: Wires) -> None:
    up = await site.up([rule("out", "deny", "udp", ports="80")])
    listener, sender = Ports(wires, None, [80, 90]), wires.frames(up.path)
    for port in (80, 90):
        packet = datagram(up.address, SERVER, port)
        sender.send(frame(site.network._here.mac, mac(up), IPV4, packet))
    assert listener.before_last(wires.udp(up.path), SERVER) == {90}


@pytest.mark.parametrize("operation", [1, 2])
async def test_it_cannot_draw_anothers_packets_to_itself(
    operation: int, site: Site, wires: Wires, two: tuple[Up, Up]
) -> None:
    one, other = two
    here = site.network._here
    # The kernel believes no two answers within a second.
    Path(f"/proc/sys/net/ipv4/neigh/{here.bridge}/locktime").write_text("0")
    inside = Ports(wires, other.path, [80])
    assert inside.reached(wires.udp(None), other.address) == {80}  # the server has asked for both
    sender = wires.frames(one.path)
    for source, claimed in ((mac(one), mac(one)), (mac(other), mac(other))):
        said = arp(operation, claimed, other.address, str(here.gateway))
        for target in (here.mac, EVERYBODY):
            sender.send(frame(target, source, ARP, said))
    assert Ports(wires, None).before_last(wires.udp(one.path), SERVER) == set()
    known = run("ip", "neigh", "show", other.address, "dev", here.bridge)
    assert mac(other) in known
    places = run("bridge", "fdb", "show", "br", here.bridge)
    assert [line for line in places.splitlines() if mac(other) in line and "static" in line]
    assert inside.reached(wires.udp(None), other.address) == {80}


async def test_it_hears_nothing_that_is_for_another(
    site: Site, wires: Wires, two: tuple[Up, Up]
) -> None:
    one, other = two
    ear = wires.frames(one.path)
    assert Ports(wires, other.path, [80]).reached(wires.udp(None), other.address) == {80}
    unknown = ["lladdr", "02:00:00:00:00:07", "dev", site.network._here.bridge]
    run("ip", "neigh", "add", "10.88.77.77", *unknown)
    wires.udp(None).sendto(b"word", ("10.88.77.77", 80))
    wires.udp(None).sendto(b"for one", (one.address, 80))
    frames = []
    while not (frames and b"for one" in frames[-1]):
        frames.append(ear.recv(2000))
    assert not [one for one in frames if b"word" in one or b"last" in one]


async def test_nobody_outside_has_a_containers_address(site: Site, wires: Wires) -> None:
    one, other = await site.up(), await site.up()
    listener, world = Ports(wires, other.path, [80]), wires.udp(wires.outside)
    wires.route(other.address)
    assert listener.reached(world, other.address) == {80}
    sender = wires.frames(wires.outside, "card")
    for speaker in (one.address, "192.0.2.99"):
        packet = datagram(speaker, other.address, 80)
        sender.send(frame(wires.card, "02:00:00:00:00:07", IPV4, packet))
        expected = set() if speaker == one.address else {80}
        assert listener.before_last(world, other.address) == expected, speaker


async def test_ipv6_ends_at_the_port(site: Site, wires: Wires, two: tuple[Up, Up]) -> None:
    one, other = two
    ear = wires.frames(other.path)
    packet = struct.pack("!IHBB", 6 << 28, 4, 59, 64) + bytes(31) + b"\x01" + bytes(15) + b"\x02"
    wires.frames(one.path).send(frame(mac(other), mac(one), 0x86DD, packet + b"word"))
    wires.frames(one.path).send(frame("33:33:00:00:00:01", mac(one), 0x86DD, packet + b"word"))
    wires.udp(None).sendto(b"last", (other.address, 80))
    frames = [ear.recv(2000)]
    while b"last" not in frames[-1]:
        frames.append(ear.recv(2000))
    assert not [seen for seen in frames if b"word" in seen]
