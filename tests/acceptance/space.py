"""What servers store, seen from outside, and the wait for what the collector does to it."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Awaitable, Callable
from typing import TypeVar

from daemon.config import load
from tests.acceptance.cluster import Cluster, Daemon
from transfer.model import Forest, Guid
from transfer.storage import open_storage

LOOK_SECONDS_MAX = 150.0
POLL_SECONDS = 0.25
COMMAND_SECONDS = 60
MIB = 1 << 20

T = TypeVar("T")


async def until(look: Callable[[], Awaitable[T]], fits: Callable[[T], bool]) -> T:
    """What is seen once it fits; fails with what was seen last."""
    deadline = asyncio.get_running_loop().time() + LOOK_SECONDS_MAX
    while not fits(seen := await look()):
        assert asyncio.get_running_loop().time() < deadline, seen
        await asyncio.sleep(POLL_SECONDS)
    return seen


async def forest_of(daemon: Daemon) -> Forest:
    """All that a server's storage has."""
    settings = load(str(daemon.config_path), {}).storage
    storage = await open_storage(
        settings.backend, settings.root, settings.mount_root, str(daemon.state_dir)
    )
    return await storage.forest()


async def gone(daemon: Daemon, guid: Guid) -> None:
    """Returns once the server no longer stores this snapshot."""

    async def stores() -> bool:
        return (await forest_of(daemon)).find(guid) is not None

    await until(stores, lambda found: not found)


def used_bytes(cluster: Cluster, number: int) -> int:
    """What a server's storage takes. On zfs `used` lags behind; to set a property is to wait for
    the transaction group in which all is that was done before."""
    root = cluster.daemons[number].storage_root
    if cluster.zfs:
        _run("zfs", "set", "test:looked=now", root)
        return int(_run("zfs", "get", "-Hp", "-o", "value", "used", root))
    # Not checked: du fails where the collector removes something under its feet.
    argv = ["du", "--summarize", "--block-size=1", root]
    done = subprocess.run(argv, capture_output=True, timeout=COMMAND_SECONDS, check=False)
    return int(done.stdout.split()[0])


async def falls_below(cluster: Cluster, number: int, limit_bytes: int) -> int:
    """What a server's storage takes once it is less than this."""

    async def used() -> int:
        return await asyncio.to_thread(used_bytes, cluster, number)

    return await until(used, lambda found: found < limit_bytes)


async def doctors_are_content(cluster: Cluster) -> None:
    """`hoodyd doctor` finds nothing, on any server."""
    for daemon in cluster.daemons:
        await asyncio.to_thread(daemon.command, "doctor")


def _run(*argv: str) -> str:
    return subprocess.run(
        argv, capture_output=True, timeout=COMMAND_SECONDS, check=True, text=True
    ).stdout
