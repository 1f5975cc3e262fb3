"""Ports of the server that lead to containers."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from daemon.errors import JobError
from tests.contract.network.sites import Site, forward, rule
from tests.wires import OUTSIDE, SECONDS, SERVER, Ports, Wires, heard

BRIDGED = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")


async def test_a_forwarded_port_answers(site: Site, wires: Wires) -> None:
    up = await site.up(network=[forward(8080, 80, "tcp"), forward(8080, 53)])
    server = wires.tcp(up.path, 80)
    gateway = str(site.network._here.gateway)
    for place, address in ((wires.outside, SERVER), (None, SERVER), (None, gateway)):
        client = wires.connect(place, address, 8080)
        served, peer = server.accept()
        served.settimeout(SECONDS)
        served.sendall(b"hello")
        assert client.recv(100) == b"hello"
        served.close()
        if place is not None:
            assert peer[0] == OUTSIDE, "the container does not see who asks"
    listener, asker = wires.udp(up.path, 53), wires.udp(wires.outside)
    asker.sendto(b"question", (SERVER, 8080))
    listener.sendto(b"answer", listener.recvfrom(100)[1])
    assert asker.recvfrom(100) == (b"answer", (SERVER, 8080))


@pytest.mark.parametrize("bridged", [0, 1])
async def test_containers_reach_it_too_even_itself(bridged: int, site: Site, wires: Wires) -> None:
    # With 1, as on a machine with docker, the kernel does not route what is forwarded from one
    # container to another but bridges it.
    if BRIDGED.exists():
        BRIDGED.write_text(str(bridged))
    up, other = await site.up(network=[forward(8080, 80, "tcp")]), await site.up()
    server = wires.tcp(up.path, 80)
    for place in (other.path, up.path):
        client = wires.connect(place, SERVER, 8080)
        served = server.accept()[0]
        served.sendall(b"hello")
        assert client.recv(100) == b"hello"
        served.close()


async def test_nothing_else_of_the_server_is_forwarded(site: Site, wires: Wires) -> None:
    up = await site.up(network=[forward(8080, 80)])
    inside, outside = wires.udp(up.path, 80), wires.udp(wires.outside, 8080)
    own = Ports(wires, None, [80])
    # Neither the port of another protocol, nor another's port of the same number.
    wires.tcp(None, 8080)
    wires.connect(wires.outside, SERVER, 8080)
    assert own.reached(wires.udp(wires.outside), SERVER) == {80}
    for place in (None, up.path, (await site.up()).path):
        wires.udp(place).sendto(b"word", (OUTSIDE, 8080))
        assert outside.recv(100) == b"word"
    assert set(heard({80: inside})) == set()


async def test_firewall_rules_judge_what_was_forwarded(site: Site, wires: Wires) -> None:
    denied = rule("in", "deny", "udp", ports="80", cidr=f"{OUTSIDE}/32")
    up = await site.up([denied], [forward(8080, 80), forward(8090, 90), forward(9, 9)])
    inside = Ports(wires, up.path, [80, 90])
    asker = wires.udp(wires.outside)
    for port in (8080, 8090):
        asker.sendto(b"word", (SERVER, port))
    assert inside.reached(asker, SERVER) == {90}


async def test_a_forward_comes_and_goes_while_it_runs(site: Site, wires: Wires) -> None:
    up = await site.up(network=[forward(9, 9)])
    inside, last = wires.udp(up.path, 80), wires.udp(up.path, 9)
    for rules, reached in (([forward(8080, 80)], {80}), ([], set())):
        await site.put(up.container, network=[*rules, forward(9, 9)])
        await site.network.apply(up.container.id)
        asker = wires.udp(wires.outside)
        for port in (8080, 9):
            asker.sendto(b"word", (SERVER, port))
        assert last.recv(100) == b"word"
        assert set(heard({80: inside})) == reached


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1"])
async def test_the_servers_own_ports_are_not_taken_from_it(
    protocol: str, address: str, site: Site, wires: Wires
) -> None:
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    own = wires.socket(None, socket.AF_INET, kind)
    own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as the exporters have it
    own.bind((address, 8080))
    if protocol == "tcp":
        own.listen()
    made = await site.container(network=[forward(8081, 81, protocol), forward(8080, 80, protocol)])
    with pytest.raises(JobError, match=rf"taken: {protocol}/8080$") as raised:
        await site.network.up(made)
    assert raised.value.code == "START_FAILED"
    own.close()
    await site.network.up(made)


async def test_what_a_container_has_stays_its_own(site: Site, wires: Wires) -> None:
    up = await site.up(network=[forward(8080, 80)])
    wires.udp(None, 8080)  # comes too late
    await site.network.apply(up.container.id)
    await site.network.up(up.container)
    listener = wires.udp(up.path, 80)
    wires.udp(wires.outside).sendto(b"word", (SERVER, 8080))
    assert listener.recv(100) == b"word"


async def test_a_connection_that_has_ended_does_not_take_a_port(site: Site, wires: Wires) -> None:
    server = wires.tcp(None, 8080)
    client = wires.connect(wires.outside, SERVER, 8080)
    served = server.accept()[0]
    for one in (served, client, server):  # who closes first keeps the port in TIME_WAIT
        one.close()
    await site.up(network=[forward(8080, 80, "tcp")])


async def test_a_port_leads_to_one_container_of_all_daemons(
    site: Site, other_site: Site, wires: Wires
) -> None:
    first = await site.up(network=[forward(8080, 80), forward(9, 9)])
    for place in (site, other_site):
        late = await place.container(network=[forward(8080, 80)])
        with pytest.raises(JobError, match=r"taken: udp/8080$"):
            await place.network.up(late)
        await place.put(late, network=[])
        await place.network.up(late)
        # Asked for while it runs, it is left out; the other rules hold.
        await place.put(
            late, network=[forward(8080, 80)], firewall=[rule("in", "deny", "udp", ports="90")]
        )
        await place.network.apply(late.id)
        inside = Ports(wires, place.path(late), [80, 90])
        assert inside.reached(wires.udp(None), place.address(late)) == {80}
    listener = wires.udp(first.path, 80)
    wires.udp(wires.outside).sendto(b"word", (SERVER, 8080))
    assert listener.recv(100) == b"word"
    # Who has it may come up again; when it is gone, the port is free.
    await site.network.up(first.container)
    await site.network.down(first.container.id)
    await other_site.network.apply(late.id)
    wires.udp(wires.outside).sendto(b"word", (SERVER, 8080))
    assert inside.before_last(wires.udp(None), other_site.address(late)) == {80}


async def test_the_servers_loopback_is_not_opened_to_containers(site: Site, wires: Wires) -> None:
    await site.up(network=[forward(8080, 80)])
    settings = Path("/proc/sys/net/ipv4/conf") / site.network._here.bridge
    assert (settings / "route_localnet").read_text() == "0\n"
