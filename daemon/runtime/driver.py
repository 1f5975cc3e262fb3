"""The runtime that a server is configured with."""

from __future__ import annotations

import os
import shutil

from daemon.config import Config
from daemon.errors import StartError
from daemon.network.network import Network as BridgeNetwork
from daemon.runtime.base import Network, Runtime
from daemon.runtime.none import NoNetwork, NoRuntime
from daemon.runtime.runc import Runc
from daemon.store.database import Database

_PROGRAMS = {"runc": "runc", "ip": "iproute2", "bridge": "iproute2", "nft": "nftables"}


def open_runtime(config: Config, network: Network) -> Runtime:
    """What starts and stops this server's containers, on this network where they have one."""
    return NoRuntime() if config.runtime.driver == "none" else _runc(config, network)


def open_network(config: Config, db: Database) -> BridgeNetwork:
    """The network of this server's containers."""
    server = config.server
    return BridgeNetwork(db, server.id, config.runtime.network, server.state_dir)


def open_runc(config: Config) -> Runc | None:
    """The runtime `runc`, where this server has it, for who only looks at what runs."""
    return None if config.runtime.driver == "none" else _runc(config, NoNetwork())


def _runc(config: Config, network: Network) -> Runc:
    return Runc(config.server.state_dir, network)


def check(config: Config) -> None:
    """Raises StartError where this machine has not what the runtime needs."""
    if config.runtime.driver == "none":
        return
    for program, package in _PROGRAMS.items():
        if shutil.which(program) is None:
            raise StartError(
                f"runtime.driver: there is no program {program}; run: apt-get install {package}"
            )
    if os.geteuid() != 0:
        raise StartError("runtime.driver: runc needs root; run hoodyd as root, or set it to none")
