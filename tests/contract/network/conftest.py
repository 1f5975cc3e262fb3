"""A server with containers on a real network, and a catalogue on SQLite."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from daemon.model import Container
from daemon.network import ground
from daemon.network.addresses import Addresses
from daemon.network.network import Network
from daemon.store import containers
from daemon.store.database import Database
from daemon.store.migrate import migrate
from tests.contract.store.catalogue import Catalogue
from tests.wires import Wires, opened

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


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated file without rows."""
    path = tmp_path_factory.mktemp("network") / "catalogue.db"

    async def make() -> None:
        db = Database(f"sqlite:///{path}")
        await migrate(db)
        await db.close()

    asyncio.run(make())
    return path


@pytest.fixture
def wires() -> Iterator[Wires]:
    yield from opened()


@pytest.fixture
async def catalogue(migrated: Path, tmp_path: Path) -> AsyncIterator[Catalogue]:
    shutil.copy(migrated, tmp_path / "catalogue.db")
    db = Database(f"sqlite:///{tmp_path}/catalogue.db")
    made = Catalogue(db)
    await made.fill()
    yield made
    await db.close()


@pytest.fixture
async def site(wires: Wires, catalogue: Catalogue, tmp_path: Path) -> AsyncIterator[Site]:
    made = Site(catalogue, tmp_path / "state")
    yield made
    await made.close()


@pytest.fixture
async def other_site(wires: Wires, catalogue: Catalogue, tmp_path: Path) -> AsyncIterator[Site]:
    """Another daemon on the same machine."""
    made = Site(catalogue, tmp_path / "other", "10.89.0.0/16", catalogue.there.id)
    yield made
    await made.close()
