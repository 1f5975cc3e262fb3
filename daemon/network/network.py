"""`Network`: containers of one server up, down, and with new rules.

Whoever changes something does it alone on this machine, and reads the rules when it is: so what
was changed before is in, and what is changed later is applied later.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from ipaddress import IPv4Interface, IPv4Network

from daemon import logs
from daemon.errors import JobError
from daemon.model import Container, Status
from daemon.network import commands, forwards, ground, ruleset
from daemon.network.addresses import Addresses
from daemon.network.ground import INSIDE, Ground, Seat
from daemon.network.ruleset import Forward
from daemon.store import containers, jobs
from daemon.store.database import Database
from transfer.errors import TransferError
from transfer.storage.locks import locked

LOCK_DIR = "/run"
"""The machine's, for two daemons share its ports and its tables."""

_IP_FORWARD = "/proc/sys/net/ipv4/ip_forward"

log = logs.get(__name__)


class Network:
    """The bridge of a server, and the containers on it. Needs root, iproute2 and nftables."""

    def __init__(self, db: Database, server_id: str, network: str, state_dir: str) -> None:
        self._db = db
        self._here = Ground(server_id, IPv4Network(network))
        path = os.path.join(state_dir, "addresses.json")
        self._addresses = Addresses(path, self._here.network)

    async def up(self, container: Container) -> str:
        """Makes the container's network, with its rules as they are now; returns the path of the
        namespace to join. What is there already is left as it is. Raises JobError START_FAILED."""
        try:
            async with _alone():
                await self._up(container.id)
        except (TransferError, OSError) as error:
            raise JobError("START_FAILED", f"the network cannot be made: {error}") from error
        return ground.namespace_path(container.id)

    async def down(self, container_id: str) -> None:
        """Removes all that `up` made but the choice of the address, and with the last container
        the bridge. Raises TransferError."""
        async with _alone():
            await self._down(container_id)

    async def apply(self, container_id: str) -> None:
        """Makes the container's rules be as the catalogue has them; nothing where it is not up. A
        forward that cannot be had is left out, and logged. A container that has stopped, and is
        not about to start, is taken down: its ports are for others. Raises TransferError."""
        async with _alone():
            container = await self._container(container_id)
            address = self._addresses.of(container_id)
            if container is None or address is None:
                return
            seat = Seat(container_id, address)
            if container.status is Status.STOPPED and not await self._is_busy(container_id):
                if _in_use(container_id):
                    await self._down(container_id)
            elif await _is_up(seat):
                refused = await self._refused(container)
                for one in refused:
                    log.error("port is taken", container_id=container_id, host_port=one.taken)
                await self._load(container, seat, refused)

    async def bare(self) -> set[str]:
        """The containers that are up without their tables: somebody has flushed the machine's
        rules, as a restart of nftables.service does. Raises TransferError."""
        listed = await commands.nft_json("list", "tables")
        names = {one["table"]["name"] for one in listed if "table" in one}
        up = filter(_in_use, self._addresses.holders())
        return {one for one in up if ground.table(one) not in names}

    async def _up(self, container_id: str) -> None:
        container = await self._container(container_id)
        if container is None:
            raise JobError("START_FAILED", "the container is gone")
        if refused := await self._refused(container):
            taken = ", ".join(one.taken for one in refused)
            raise JobError("START_FAILED", f"ports of the server that are taken: {taken}")
        seat = Seat(container_id, self._addresses.choose(container_id, _in_use))
        await self._arrive()
        if await _is_up(seat):
            await self._load(container, seat)
            return
        await _remove(container_id)
        await self._plug(seat)
        await self._load(container, seat)  # before the first packet can pass
        await self._connect(seat)

    async def _down(self, container_id: str) -> None:
        await _remove(container_id)
        if not await commands.ip_json("link", "show", "master", self._here.bridge):
            await self._leave()

    async def _is_busy(self, container_id: str) -> bool:
        """Whether a job may start it: one that comes later waits for the machine's lock."""
        async with self._db.read() as tx:
            return await jobs.active_for(tx, container_id) is not None

    async def _container(self, container_id: str) -> Container | None:
        async with self._db.read() as tx:
            return await containers.get(tx, container_id)

    async def _refused(self, container: Container) -> list[Forward]:
        wanted = ruleset.forwards(container.network_rules)
        return await forwards.refused(wanted, ground.table(container.id))

    async def _load(
        self, container: Container, seat: Seat, without: Sequence[Forward] = ()
    ) -> None:
        """All rules that the container needs, the server's too, in one transaction."""
        wanted = ruleset.forwards(container.network_rules)
        possible = [one for one in wanted if one not in without]
        await commands.nft(
            ruleset.server_text(self._here)
            + ruleset.guard_text(self._here, seat)
            + ruleset.container_text(seat, container.firewall_rules, possible)
        )

    async def _arrive(self) -> None:
        """The bridge, and a machine that forwards."""
        here = self._here
        lines = []
        if not commands.has_link(here.bridge):
            await self._check_overlap()
            lines = [f"link add name {here.bridge} address {here.mac} type bridge"]
        gateway = f"{here.gateway}/{here.network.prefixlen}"
        lines += [
            f"address replace {gateway} dev {here.bridge}",
            f"link set dev {here.bridge} up",
        ]
        await commands.ip_all(lines)
        _pass_packets_on()

    async def _check_overlap(self) -> None:
        """Raises JobError where another interface has an address of this network: another daemon
        with the same `runtime.network`, or a network that the machine itself is in."""
        for link in await commands.ip_json("-4", "address", "show"):
            for one in link["addr_info"]:
                other = IPv4Interface(f"{one['local']}/{one['prefixlen']}").network
                if other.overlaps(self._here.network):
                    raise JobError(
                        "START_FAILED",
                        f"runtime.network: {self._here.network} overlaps {other} of "
                        f"{link['ifname']}; give this server another",
                    )

    async def _leave(self) -> None:
        await commands.nft(ruleset.removal_text("ip", self._here.table))
        if commands.has_link(self._here.bridge):
            await commands.ip("link", "delete", "dev", self._here.bridge)

    async def _plug(self, seat: Seat) -> None:
        """The namespace and the veth, still down. The bridge learns nothing from containers but is
        told where each is, and so sends to none what is for another. Hairpin is for a container
        that asks for a port of the server which leads to itself: where br_netfilter is loaded, as
        with docker, that is not routed but bridged."""
        inside, port = ground.namespace(seat.container_id), ground.port(seat.container_id)
        await commands.ip("netns", "add", inside)
        peer = f"peer name {INSIDE} address {seat.mac} netns {inside}"
        await commands.ip_all(
            [
                f"link add name {port} type veth {peer}",
                f"link set dev {port} master {self._here.bridge}",
                f"link set dev {port} type bridge_slave learning off flood off hairpin on",
            ]
        )
        await commands.bridge("fdb", "replace", seat.mac, "dev", port, "master", "static")

    async def _connect(self, seat: Seat) -> None:
        """A container has its address alone, and everything else, its neighbours too, by way of
        the server."""
        await commands.ip("link", "set", "dev", ground.port(seat.container_id), "up")
        await commands.ip_all(
            [
                "link set dev lo up",
                f"link set dev {INSIDE} up",
                f"route add {self._here.gateway} dev {INSIDE}",
                f"route add default via {self._here.gateway} dev {INSIDE}",
                # Last, for it is what `_is_up` asks for.
                f"address add {seat.address}/32 dev {INSIDE}",
            ],
            ground.namespace(seat.container_id),
        )


def _alone() -> AbstractAsyncContextManager[None]:
    return locked(LOCK_DIR, "hoody-network")


async def _is_up(seat: Seat) -> bool:
    """Whether the container's network is there, whole, and with this address."""
    if not (_in_use(seat.container_id) and commands.has_link(ground.port(seat.container_id))):
        return False
    where = ("-netns", ground.namespace(seat.container_id))
    links = await commands.ip_json(*where, "-4", "address", "show", "dev", INSIDE)
    return [one["local"] for link in links for one in link["addr_info"]] == [str(seat.address)]


def _pass_packets_on() -> None:
    with open(_IP_FORWARD, encoding="ascii") as file:
        passes = file.read().strip() == "1"
    if not passes:
        with open(_IP_FORWARD, "w", encoding="ascii") as file:
            file.write("1")


def _in_use(container_id: str) -> bool:
    return os.path.exists(ground.namespace_path(container_id))


async def _remove(container_id: str) -> None:
    """Whatever there is of it: the end of the veth first, since the namespace's other end goes
    only some time after the namespace."""
    table, port = ground.table(container_id), ground.port(container_id)
    families = ("ip", "netdev")
    await commands.nft("".join(ruleset.removal_text(family, table) for family in families))
    if commands.has_link(port):
        await commands.ip("link", "delete", "dev", port)
    if _in_use(container_id):
        await commands.ip("netns", "delete", ground.namespace(container_id))
