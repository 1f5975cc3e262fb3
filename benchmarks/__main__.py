"""`python -m benchmarks`: measures, prints one table, keeps it under results/; 1 on a miss."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator

from rich.console import Console

from benchmarks import figures, rounds
from benchmarks.figures import Figure
from benchmarks.world import LARGE_BYTES, SMALL_BYTES, World
from daemon.client import Client, ClientError
from daemon.demo.servers import DemoFailed, Servers
from daemon.errors import DaemonError
from transfer.errors import TransferError
from transfer.storage import private_zfs


def main() -> int:
    """Measures; 1 where a figure was missed or could not be taken."""
    console = Console(width=None if os.isatty(1) else 140)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        return _measure(console)
    except (DemoFailed, ClientError, DaemonError, TransferError) as error:
        console.print(f"[red]the benchmark failed:[/] {error}", highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("interrupted")
        return 130


def _measure(console: Console) -> int:
    found: list[Figure] = []
    why = private_zfs.available()
    if why is None:
        private_zfs.enter_namespace()
        with _servers("zfs") as servers:
            found += asyncio.run(_zfs(servers, console))
    with _servers("dir") as servers:
        found += asyncio.run(_dir(servers, console))
    console.print("ssh alone, from memory to memory")
    found += asyncio.run(rounds.ssh_ceiling())
    figures.show(found, console)
    console.print(f"kept in {figures.keep(found)}", soft_wrap=True)
    if why is not None:
        console.print(f"[red]not measured:[/] zfs ({why})")
    return 1 if why is not None or any(figure.missed for figure in found) else 0


async def _zfs(servers: Servers, console: Console) -> list[Figure]:
    async with _world(servers, console) as world:
        small, large = await world.create(SMALL_BYTES), await world.create(LARGE_BYTES)
        return [
            *await rounds.same_server(world, small, large),
            *await rounds.across(world, large),
            *await rounds.zfs_ceiling(world, large),
        ]


async def _dir(servers: Servers, console: Console) -> list[Figure]:
    async with _world(servers, console) as world:
        return await rounds.across(world, await world.create(LARGE_BYTES))


@contextlib.asynccontextmanager
async def _world(servers: Servers, console: Console) -> AsyncIterator[World]:
    await servers.start()
    async with Client(servers.members[0].url, servers.token) as client:
        yield World(servers, client, console.print)


@contextlib.contextmanager
def _servers(backend: str) -> Iterator[Servers]:
    """Servers in a temporary directory; nothing of them stays, whatever happens."""
    with contextlib.ExitStack() as stack:
        directory = tempfile.mkdtemp(prefix="hoody-bench-")
        stack.callback(shutil.rmtree, directory)
        zfs = stack.enter_context(private_zfs.PrivateZfs()) if backend == "zfs" else None
        servers = Servers(directory, backend, zfs)
        stack.callback(servers.stop)
        yield servers


if __name__ == "__main__":
    sys.exit(main())
