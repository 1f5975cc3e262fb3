"""Measures one part, as a process of its own: `python -m benchmarks.measure PART DIRECTORY
GIGABYTES [--quick]`. It has namespaces of its own, so nothing of one part is left in the next."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import FrameType

from benchmarks import copying, peers, pipe, results, scale, world
from benchmarks.options import Options
from benchmarks.results import Part
from daemon.client import ClientError
from daemon.demo.servers import DemoFailed
from daemon.errors import DaemonError
from transfer.errors import TransferError

MEASURES: dict[str, Callable[[Options], Awaitable[Part]]] = {
    "copy": copying.measure,
    "peers": peers.measure,
    "pipe": pipe.measure,
    "scale": scale.measure,
}


def main(name: str, directory: str, gigabytes: str, *flags: str) -> int:
    """Measures and keeps the part's file; 1 where it cannot be measured."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    options = Options(quick="--quick" in flags, gigabytes=int(gigabytes))
    try:
        world.enter()
        began = time.monotonic()
        part = asyncio.run(_measured(name, options))
        results.keep(Path(directory), part, time.monotonic() - began, quick=options.quick)
    except (DemoFailed, ClientError, DaemonError, TransferError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Once: what ends the servers and the pools is not to be interrupted."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


async def _measured(name: str, options: Options) -> Part:
    return await MEASURES[name](options)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
