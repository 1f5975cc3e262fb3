"""Servers with containers on a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from daemon.model import Container
from daemon.network import ground
from daemon.network.addresses import Addresses
from daemon.network.network import Network
from daemon.store import containers
from tests.contract.store.catalogue import Catalogue

Rule = dict[str, Any]


def rule(direction: str, action: str, protocol: str = "any", **more: object) -> Rule:
    """A firewall rule as the catalogue has it."""
    given = {"direction": direction, "action": action, "protocol": protocol}
    return {"ports": None, "cidr": None, "comment": None} | given | more


def forward(host_port: int, container_port: int, protocol: str = "udp") -> Rule:
    """A network rule as the catalogue has it."""
    ports = {"host_port": host_port, "container_port": container_port}
    return {"type": "forward", "protocol": protocol} | ports


@dataclass
class Site:
    """One server's network and its containers."""

    catalogue: Catalogue
    state: Path
    network_text: str = "10.88.0.0/16"
    server_id: str = ""
    made: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state.mkdir(exist_ok=True)
        self.server_id = self.server_id or self.catalogue.here.id
        self.restart()

    def restart(self) -> None:
        """Another daemon in its place."""
        args = (self.catalogue.db, self.server_id, self.network_text, str(self.state))
        self.network = Network(*args)

    async def container(
        self, firewall: Sequence[Rule] = (), network: Sequence[Rule] = ()
    ) -> Container:
        """A container in the catalogue."""
        made = await self.catalogue.add_container(
            f"c{len(self.made)}-{self.server_id[:6]}",
            server_id=self.server_id,
            firewall_rules=tuple(firewall),
            network_rules=tuple(network),
        )
        self.made.append(made.id)
        return made

    async def up(self, firewall: Sequence[Rule] = (), network: Sequence[Rule] = ()) -> Up:
        """A container with its network."""
        made = await self.container(firewall, network)
        path = await self.network.up(made)
        return Up(made, path, self.address(made))

    def path(self, container: Container) -> str:
        """Its network namespace."""
        return ground.namespace_path(container.id)

    def address(self, container: Container) -> str:
        """The container's address."""
        network = self.network._here.network
        return str(Addresses(str(self.state / "addresses.json"), network).of(container.id))

    async def put(self, container: Container, **rules: Sequence[Rule]) -> None:
        """Other rules, in the catalogue alone."""
        columns = {f"{kind}_rules": tuple(some) for kind, some in rules.items()}
        await self.catalogue.write(containers.change, container.id, **columns)

    async def close(self) -> None:
        for container_id in self.made:
            await self.network.down(container_id)


@dataclass(frozen=True)
class Up:
    """A container whose network is up: the path of its namespace, and its address."""

    container: Container
    path: str
    address: str
