"""Firewall rules, seen by packets: one dropped, and one let through."""

from __future__ import annotations

import socket

import pytest

from daemon.model import new_id
from tests.contract.network.sites import Rule, Site, rule
from tests.wires import (
    FARTHER,
    OUTSIDE,
    SECONDS,
    SENTINEL,
    SERVER,
    Ports,
    Wires,
    send,
)

DENY_IN, DENY_OUT = rule("in", "deny"), rule("out", "deny")
LAST_IN = rule("in", "allow", "udp", ports=str(SENTINEL))
LAST_OUT = rule("out", "allow", "udp", ports=str(SENTINEL))


async def test_without_rules_a_container_reaches_the_world_and_is_answered(
    site: Site, wires: Wires
) -> None:
    up = await site.up()
    world, own = wires.udp(wires.outside, 53), wires.udp(up.path)
    own.sendto(b"question", (OUTSIDE, 53))
    said, asker = world.recvfrom(100)
    assert said == b"question"
    assert asker[0] == SERVER, "not under the server's address"
    world.sendto(b"answer", asker)
    assert own.recv(100) == b"answer"


async def test_containers_of_one_bridge_reach_each_other_under_their_own_addresses(
    site: Site, wires: Wires
) -> None:
    one, other = await site.up(), await site.up()
    listener, sender = wires.udp(other.path, 53), wires.udp(one.path)
    for _ in range(3):  # nor is a shorter way pointed out to them, which there is not
        sender.sendto(b"word", (other.address, 53))
        assert listener.recvfrom(100)[1][0] == one.address


@pytest.mark.parametrize("ports", ["80", "80-80", "79-82", "10-80"])
async def test_a_denied_port_is_dropped_and_another_let_through(
    ports: str, site: Site, wires: Wires
) -> None:
    up = await site.up([rule("in", "deny", "udp", ports=ports)])
    inside = Ports(wires, up.path, [80, 90])
    assert inside.reached(wires.udp(None), up.address) == {90}


async def test_tcp_is_told_from_udp(site: Site, wires: Wires) -> None:
    up = await site.up([rule("in", "deny", "tcp", ports="80")])
    assert Ports(wires, up.path, [80]).reached(wires.udp(None), up.address) == {80}
    wires.tcp(up.path, 80)
    wires.tcp(up.path, 90)
    wires.connect(None, up.address, 90)
    refused = wires.socket(None, socket.AF_INET, socket.SOCK_STREAM)
    refused.settimeout(0.3)
    with pytest.raises(TimeoutError):
        refused.connect((up.address, 80))


async def test_any_with_ports_is_tcp_and_udp(site: Site, wires: Wires) -> None:
    up = await site.up([rule("in", "deny", ports="80")])
    assert Ports(wires, up.path, [80, 90]).reached(wires.udp(None), up.address) == {90}
    wires.tcp(up.path, 80)
    refused = wires.socket(None, socket.AF_INET, socket.SOCK_STREAM)
    refused.settimeout(0.3)
    with pytest.raises(TimeoutError):
        refused.connect((up.address, 80))


NEAR = {"cidr": "192.0.2.0/25"}


@pytest.mark.parametrize(
    ("rules", "reached"),
    [
        ([rule("in", "allow", "udp", ports="80"), LAST_IN, DENY_IN], {80}),
        ([LAST_IN, DENY_IN, rule("in", "allow", "udp", ports="80")], set()),
        ([LAST_IN, rule("in", "allow", **NEAR), DENY_IN], {80, 90}),
        ([LAST_IN, rule("in", "deny", **NEAR), rule("in", "allow")], set()),
        ([rule("in", "allow", cidr="0.0.0.0/0"), DENY_IN], {80, 90}),
        ([LAST_IN, rule("in", "allow", cidr="192.0.2.128/25"), DENY_IN], set()),
        ([rule("in", "deny", cidr="2001:db8::/32"), rule("in", "deny", cidr="::/0")], {80, 90}),
        ([DENY_OUT], {80, 90}),
    ],
)
async def test_the_first_that_matches_wins(
    rules: list[Rule], reached: set[int], site: Site, wires: Wires
) -> None:
    up = await site.up(rules)
    near = wires.udp(wires.outside, address=OUTSIDE)
    wires.route(up.address)
    assert Ports(wires, up.path, [80, 90]).reached(near, up.address) == reached


async def test_a_rule_names_the_peer_by_its_network(site: Site, wires: Wires) -> None:
    denied = [rule("out", "deny", "udp", cidr=f"{FARTHER}/32")]
    up = await site.up(denied)
    near, far = (wires.udp(wires.outside, 80, one) for one in (OUTSIDE, FARTHER))
    own = wires.udp(up.path)
    for address in (FARTHER, OUTSIDE):
        own.sendto(b"word", (address, 80))
    assert near.recv(100) == b"word"
    far.setblocking(False)
    with pytest.raises(BlockingIOError):
        far.recv(100)


async def test_answers_pass_where_questions_do_not(site: Site, wires: Wires) -> None:
    asks, answers = await site.up([DENY_IN]), await site.up([LAST_OUT, DENY_OUT])
    own, world = wires.udp(asks.path), wires.udp(wires.outside, 53)
    own.sendto(b"question", (OUTSIDE, 53))
    world.sendto(b"answer", world.recvfrom(100)[1])
    assert own.recv(100) == b"answer"
    # And between the two, over TCP.
    server = wires.tcp(answers.path, 80)
    client = wires.connect(asks.path, answers.address, 80)
    served = server.accept()[0]
    served.settimeout(SECONDS)
    client.sendall(b"ping")
    assert served.recv(100) == b"ping"
    served.sendall(b"pong")
    assert client.recv(100) == b"pong"
    served.close()
    outside = Ports(wires, wires.outside, [80])
    assert outside.reached(wires.udp(answers.path), OUTSIDE) == set()


async def test_news_of_what_was_asked_pass_too(site: Site, wires: Wires) -> None:
    up = await site.up([rule("in", "allow", "udp", ports="80"), DENY_IN])
    own = wires.udp(up.path)
    own.connect((OUTSIDE, 53))  # where nobody listens
    own.send(b"question")
    with pytest.raises(ConnectionRefusedError):
        own.recv(100)
    # And of an answer, to where nobody waits for it any more.
    asked, asker = wires.udp(up.path, 80), wires.udp(None)
    asker.sendto(b"question", (up.address, 80))
    asked.connect(asked.recvfrom(100)[1])
    asker.close()
    asked.send(b"answer")
    with pytest.raises(ConnectionRefusedError):
        asked.recv(100)


@pytest.mark.parametrize("denies", ["asker", "asked"])
async def test_between_containers_both_sides_rules_hold(
    denies: str, site: Site, wires: Wires
) -> None:
    out, into = rule("out", "deny", "udp", ports="80"), rule("in", "deny", "udp", ports="80")
    one = await site.up([out] if denies == "asker" else [])
    other = await site.up([into] if denies == "asked" else [])
    inside = Ports(wires, other.path, [80, 90])
    assert inside.reached(wires.udp(one.path), other.address) == {90}
    back = Ports(wires, one.path, [80, 90])
    assert back.reached(wires.udp(other.path), one.address) == {80, 90}


async def test_the_server_itself_is_a_peer_like_others(site: Site, wires: Wires) -> None:
    up = await site.up([rule("out", "deny", "udp", ports="80")])
    server = Ports(wires, None, [80, 90])
    assert server.reached(wires.udp(up.path), SERVER) == {90}
    assert server.reached(wires.udp(up.path), str(site.network._here.gateway)) == {90}


async def test_icmp_is_a_protocol(site: Site, wires: Wires) -> None:
    up = await site.up([rule("in", "deny", "icmp")])
    other = await site.up()
    pings = {
        place.address: wires.socket(place.path, socket.AF_INET, socket.SOCK_RAW, 1)
        for place in (up, other)
    }
    sender = wires.socket(None, socket.AF_INET, socket.SOCK_RAW, 1)
    for address in pings:
        send(sender, b"\x08\x00\xf7\xff\x00\x00\x00\x00", address)
    assert pings[other.address].recv(100)
    pings[up.address].setblocking(False)
    with pytest.raises(BlockingIOError):
        pings[up.address].recv(100)
    assert Ports(wires, up.path, [80]).reached(wires.udp(None), up.address) == {80}


async def test_changed_rules_hold_at_once_and_for_what_was_connected(
    site: Site, wires: Wires
) -> None:
    up = await site.up()
    inside, sender = Ports(wires, up.path, [80, 90]), wires.udp(None)
    assert inside.reached(sender, up.address) == {80, 90}
    inside.answer(80, sender, up.address)
    await site.put(up.container, firewall=[rule("in", "deny", "udp", ports="80")])
    assert inside.reached(sender, up.address) == {80, 90}, "before they are applied"
    await site.network.apply(up.container.id)
    assert inside.reached(sender, up.address) == {90}
    await site.put(up.container, firewall=[])
    await site.network.apply(up.container.id)
    assert inside.reached(sender, up.address) == {80, 90}


async def test_rules_of_what_is_not_up_wait(site: Site, wires: Wires) -> None:
    made = await site.container()
    await site.put(made, firewall=[rule("in", "deny", "udp", ports="80")])
    await site.network.apply(made.id)
    await site.network.apply(new_id())
    path = await site.network.up(made)
    inside = Ports(wires, path, [80, 90])
    assert inside.reached(wires.udp(None), site.address(made)) == {90}
