"""A server id runs once, and a port is somebody's: the second daemon says so in one line."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.cluster import Cluster, Daemon, MakeCluster
from tests.ports import free_port

START_SECONDS = 60
LATER = 75


@pytest.fixture(scope="module")
def backend() -> str:
    """Nothing here depends on the storage."""
    return "dir"


@pytest.fixture(scope="module")
def cluster(make_cluster: MakeCluster) -> Cluster:
    return make_cluster(1)


def _itself(config: str, _daemon: Daemon) -> str:
    return config


def _other_ports(config: str, daemon: Daemon) -> str:
    """The config of a copy of the server: its id and keys, but its own ports and directory."""
    twin = daemon.state_dir.with_name("state-twin")
    shutil.copytree(daemon.state_dir, twin, dirs_exist_ok=True)
    config = config.replace(str(daemon.state_dir), str(twin))
    config = config.replace(daemon.url.removeprefix("http://"), f"127.0.0.1:{free_port()}")
    return config.replace(_peer(daemon), f"127.0.0.1:{free_port()}")


def _at(address: str, config: str, daemon: Daemon) -> str:
    """As `_other_ports`, but where the address stands it stays."""
    free = f"127.0.0.1:{free_port()}"
    return _other_ports(config.replace(address, free), daemon).replace(free, address)


def _same_api_port(config: str, daemon: Daemon) -> str:
    return _at(daemon.url.removeprefix("http://"), config, daemon)


def _same_peer_port(config: str, daemon: Daemon) -> str:
    return _at(_peer(daemon), config, daemon)


def _peer(daemon: Daemon) -> str:
    host, port = daemon.peer_address
    return f"{host}:{port}"


@pytest.mark.parametrize(
    ("vary", "key", "code"),
    [
        (_itself, "server.state_dir: another daemon runs", LATER),
        (_other_ports, "server.id: ", LATER),
        (_same_api_port, "server.listen: ", 2),
        (_same_peer_port, "peer.listen: ", 2),
    ],
    ids=["state directory", "server id", "API port", "peer port"],
)
def test_the_second_refuses(
    cluster: Cluster, tmp_path: Path, vary: Callable[[str, Daemon], str], key: str, code: int
) -> None:
    """By a code that tells a service manager whether another try may help: the first may be about
    to end, but a port is in the config."""
    daemon = cluster.daemons[0]
    config = tmp_path / "second.toml"
    config.write_text(vary(daemon.config_path.read_text().replace("debug", "warning"), daemon))
    done = subprocess.run(
        [sys.executable, "-m", "daemon", "run", "--config", str(config)],
        capture_output=True,
        timeout=START_SECONDS,
        check=False,
    )
    assert done.returncode == code, done.stderr.decode()
    assert done.stdout == b""
    assert done.stderr.decode().startswith(f"hoodyd: {key}"), done.stderr.decode()
    assert done.stderr.count(b"\n") == 1
    assert daemon.is_ready()
