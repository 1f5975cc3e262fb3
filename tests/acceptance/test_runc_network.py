"""A container that runs is reached by its rules, whatever is started anew around it."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from daemon.network import ground
from tests.acceptance import boxes
from tests.acceptance.api import Api
from tests.acceptance.cluster import Cluster
from tests.wires import SERVER, Wires

OPEN, SHUT = 18080, 18081
"""Ports of the server that lead to ports 80 and 81 of a container."""
DROPPED_SECONDS = 2.0

SERVES = """
echo "from $(cat /etc/name)" > /tmp/index.html
/bin/busybox httpd -p 81 -h /tmp
exec /bin/busybox httpd -f -p 80 -h /tmp
"""


@pytest.fixture(scope="module")
def cluster(running: Cluster) -> Cluster:
    return running


def answer(wires: Wires, port: int) -> str | None:
    """What the world outside is told at this port of the server; None where nobody answers."""
    with wires.inside(wires.outside):
        caller = socket.socket()
    with caller:
        caller.settimeout(DROPPED_SECONDS)
        try:
            caller.connect((SERVER, port))
            caller.sendall(b"GET /index.html HTTP/1.0\r\n\r\n")
            told = b"".join(iter(lambda: caller.recv(4096), b""))
        except OSError:
            return None
    return told.decode().rpartition("\r\n\r\n")[2]


def said(*words: str) -> list[str]:
    """The lines that a command says."""
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


async def told(wires: Wires, port: int, wanted: str | None) -> None:
    """Returns when it is what the world is told."""

    async def is_so() -> bool:
        return answer(wires, port) == wanted

    await boxes.until(is_so)


async def test_rules_hold(cluster: Cluster, api: Api, wires: Wires) -> None:
    there = cluster.daemons[1]
    tree = boxes.make(cluster.tree("web"))
    Path(tree, "etc", "name").write_text("first")
    source = await api.create(tree, command=boxes.shell(SERVES))
    copy, _ = await api.copy(source, there.server_id)
    forward = {"type": "forward", "protocol": "tcp"}
    leads = [
        {**forward, "host_port": OPEN, "container_port": 80},
        {**forward, "host_port": SHUT, "container_port": 81},
    ]
    await api.call("PUT", f"/containers/{copy}/network-rules", rules=leads)
    for port in (OPEN, SHUT):
        await told(wires, port, "from first\n")
    deny = {"direction": "in", "action": "deny", "protocol": "tcp", "ports": "81", "cidr": None}
    await api.call("PUT", f"/containers/{copy}/firewall-rules", rules=[deny])
    await told(wires, SHUT, None)
    await told(wires, OPEN, "from first\n")

    there.kill()
    there.start()
    assert answer(wires, OPEN) == "from first\n"
    assert answer(wires, SHUT) is None

    Path(await api.rootfs(source), "etc", "name").write_text("second")
    await api.sync(copy)
    await told(wires, OPEN, "from second\n")
    assert answer(wires, SHUT) is None

    await api.power(copy, "restart")
    await told(wires, OPEN, "from second\n")
    assert answer(wires, SHUT) is None

    inside = boxes.pid_of(there, copy)
    assert os.readlink(f"/proc/{inside}/ns/net") != os.readlink("/proc/self/ns/net")
    await api.delete(copy)
    await api.delete(source)
    assert not os.path.exists(ground.namespace_path(copy))
    assert not said("nft", "list", "tables")
    assert {line.split()[0].partition("@")[0] for line in said("ip", "-brief", "link")} == {
        "lo",
        "card",  # the wires' own
    }
