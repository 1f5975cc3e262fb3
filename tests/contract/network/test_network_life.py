"""A network comes up, stays what it is, and leaves nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon.errors import JobError
from daemon.model import JobType, Status, new_id
from daemon.network import ground
from daemon.states import Move
from daemon.store import containers
from tests.contract.network.sites import Site, forward, rule
from tests.wires import OUTSIDE, SERVER, Ports, Wires, left, run

DENY = [rule("in", "deny", "udp", ports="80")]


async def test_nothing_is_left(site: Site, wires: Wires) -> None:
    before = left(*site.made)
    ups = [await site.up(DENY, [forward(8080, 80)]), await site.up()]
    with_both = left(*site.made)
    for name, said in left(*site.made).items():
        assert said != before[name], f"no sign of it: {name}"
    await site.network.down(ups[0].container.id)
    assert ups[0].container.id not in str(left(*site.made))
    assert left(*site.made) != with_both
    listener = wires.udp(wires.outside, 53)
    wires.udp(ups[1].path).sendto(b"word", (OUTSIDE, 53))
    assert listener.recv(100) == b"word", "the other's went with it"
    for _twice in range(2):
        await site.network.down(ups[1].container.id)
        assert left(*site.made) == before
    await site.network.down(new_id())
    assert left(*site.made) == before


async def test_what_has_stopped_gives_its_ports_back(site: Site, wires: Wires) -> None:
    up = await site.up(network=[forward(8080, 80)])
    await site.network.apply(up.container.id)
    assert Path(up.path).exists(), "it runs"
    await site.catalogue.write(containers.change, up.container.id, status=Status.STOPPED)
    starting = await site.catalogue.add_job(JobType.START, up.container.id)
    await site.network.apply(up.container.id)
    assert Path(up.path).exists(), "it is about to start"
    await site.catalogue.move(starting, Move.CANCEL)
    for _twice in range(2):
        await site.network.apply(up.container.id)
        assert not Path(up.path).exists()
    other = await site.up(network=[forward(8080, 80)])
    listener = wires.udp(other.path, 80)
    wires.udp(wires.outside).sendto(b"word", (SERVER, 8080))
    assert listener.recv(100) == b"word"
    await site.network.down(other.container.id)
    assert await site.network.up(up.container) == up.path
    assert site.address(up.container) == up.address


async def test_up_twice_disturbs_nobody(site: Site, wires: Wires) -> None:
    up = await site.up()
    server = wires.tcp(up.path, 80)
    client = wires.connect(None, up.address, 80)
    served = server.accept()[0]
    now = left(*site.made)
    assert await site.network.up(up.container) == up.path
    assert left(*site.made) == now
    client.sendall(b"still there")
    assert served.recv(100) == b"still there"
    served.close()


async def test_another_daemon_in_its_place_finds_all_as_it_is(site: Site, wires: Wires) -> None:
    up = await site.up(DENY, [forward(8080, 90), forward(9, 9)])
    inside = Ports(wires, up.path, [80, 90])
    site.restart()
    wires.udp(wires.outside).sendto(b"word", (SERVER, 8080))
    assert inside.reached(wires.udp(wires.outside), SERVER) == {90}
    assert inside.reached(wires.udp(None), up.address) == {90}
    now = left(*site.made)
    await site.network.apply(up.container.id)
    assert await site.network.up(up.container) == up.path
    assert left(*site.made) == now
    other = await site.up()
    assert other.address != up.address
    await site.network.down(up.container.id)
    assert up.container.id not in str(left(*site.made))


async def test_an_address_is_kept_over_down_and_restart(site: Site, wires: Wires) -> None:
    up = await site.up()
    await site.network.down(up.container.id)
    site.restart()
    other = await site.up()
    assert await site.network.up(up.container) == up.path
    assert site.address(up.container) == up.address != other.address
    said = json.loads(run("ip", "-json", "-netns", Path(up.path).name, "-4", "addr", "show"))
    assert [one["local"] for one in said[-1]["addr_info"]] == [up.address]


def _a_namespace(container_id: str) -> None:
    run("ip", "netns", "add", ground.namespace(container_id))


def _a_name_alone(container_id: str) -> None:
    Path(ground.namespace_path(container_id)).touch()


def _a_port(container_id: str) -> None:
    run("ip", "link", "add", "name", ground.port(container_id), "type", "veth")


def _both(container_id: str) -> None:
    _a_namespace(container_id)
    peer = ["peer", "name", "eth0", "netns", ground.namespace(container_id)]
    run("ip", "link", "add", "name", ground.port(container_id), "type", "veth", *peer)


@pytest.mark.parametrize("half", [_a_namespace, _a_name_alone, _a_port, _both])
async def test_what_a_killed_worker_left_is_made_whole(
    half: Callable[[str], None], site: Site, wires: Wires
) -> None:
    made = await site.container(DENY)
    half(made.id)
    await site.network.apply(made.id)  # not up: nothing to apply to
    path = await site.network.up(made)
    inside = Ports(wires, path, [80, 90])
    assert inside.reached(wires.udp(None), site.address(made)) == {90}


@pytest.mark.parametrize("half", [_a_namespace, _a_name_alone, _a_port, _both])
async def test_what_a_killed_worker_left_can_go(
    half: Callable[[str], None], site: Site, wires: Wires
) -> None:
    before = left(*site.made)
    made = await site.container()
    half(made.id)
    await site.network.down(made.id)
    assert left(*site.made) == before


async def test_many_at_once_have_an_address_each(site: Site, wires: Wires) -> None:
    made = [await site.container() for _ in range(6)]
    await asyncio.gather(*(site.network.up(one) for one in made))
    assert len({site.address(one) for one in made}) == len(made)
    await asyncio.gather(*(site.network.down(one.id) for one in made))
    assert site.network._here.bridge not in left(*site.made)["links"]


async def test_two_daemons_never_meet(site: Site, other_site: Site, wires: Wires) -> None:
    before = left(*site.made, *other_site.made)
    one, other = await site.up(DENY), await other_site.up()
    assert site.network._here.bridge != other_site.network._here.bridge
    listener = wires.udp(wires.outside, 53)
    for up in (one, other):
        wires.udp(up.path).sendto(b"word", (OUTSIDE, 53))
        assert listener.recvfrom(100)[1][0] == SERVER
    # They are neighbours by way of the server; rules hold for who comes from there.
    inside = Ports(wires, one.path, [80, 90])
    assert inside.reached(wires.udp(other.path), one.address) == {90}
    await site.network.down(one.container.id)
    wires.udp(other.path).sendto(b"word", (OUTSIDE, 53))
    assert listener.recv(100) == b"word"
    await other_site.network.down(other.container.id)
    assert left(*site.made, *other_site.made) == before


@pytest.mark.parametrize(
    ("network", "of"), [("10.88.0.0/24", "hb-"), ("10.0.0.0/8", "hb-"), ("192.0.2.0/25", "card")]
)
async def test_a_network_that_is_another_ones_is_refused(
    network: str, of: str, site: Site, other_site: Site, wires: Wires
) -> None:
    await site.up()
    before = left(*site.made, *other_site.made)
    other_site.network_text = network
    other_site.restart()
    with pytest.raises(JobError, match=f"runtime.network: {network} overlaps .* of {of}") as raised:
        await other_site.up()
    assert raised.value.code == "START_FAILED"
    assert left(*site.made, *other_site.made) == before


async def test_a_container_that_is_gone_does_not_come_up(site: Site, wires: Wires) -> None:
    before = left(*site.made)
    with pytest.raises(JobError, match="gone"):
        await site.network.up(site.catalogue.container())
    assert left(*site.made) == before


async def test_what_cannot_be_made_is_told(
    site: Site, wires: Wires, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await site.container()
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(JobError, match="no program ip") as raised:
        await site.network.up(made)
    assert raised.value.code == "START_FAILED"
    monkeypatch.undo()
    await site.network.up(made)
