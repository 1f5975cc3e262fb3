"""What this machine does without the product: zfs alone, and ssh alone."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import IO

import asyncssh

from benchmarks.pour import POURED_BYTES
from daemon.demo.servers import DemoFailed
from transfer.peer.link import ALGORITHMS, LinkSettings

COMMAND_SECONDS = 120.0


def send_and_receive(dataset: str, target: str) -> float:
    """Seconds of `zfs send | zfs receive` of a dataset into another pool, through a pipe."""
    snapshot = f"{dataset}@bench"
    _do("zfs", "snapshot", snapshot)
    began = time.monotonic()
    with subprocess.Popen(["zfs", "send", snapshot], stdout=subprocess.PIPE) as sending:
        _do("zfs", "receive", target, stdin=sending.stdout)
    if sending.returncode != 0:
        raise DemoFailed(f"zfs send {snapshot} failed")
    seconds = time.monotonic() - began
    _do("zfs", "destroy", "-r", target)
    _do("zfs", "destroy", snapshot)
    return seconds


def _do(*argv: str, stdin: IO[bytes] | None = None) -> None:
    done = subprocess.run(
        argv, stdin=stdin, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
    )
    if done.returncode != 0:
        raise DemoFailed(f"{' '.join(argv)}: {done.stderr.strip()}")


class _Count(asyncssh.SSHClientSession[bytes]):
    def __init__(self) -> None:
        self.bytes = 0
        self.ended = asyncio.Event()

    def data_received(self, data: bytes, datatype: int | None) -> None:
        self.bytes += len(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set()


async def ssh_memory_to_memory() -> float:
    """Bytes per second of one asyncssh channel between two processes, from memory to memory."""
    argv = [sys.executable, "-m", "benchmarks.pour"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as pour:
        try:
            port = int(await asyncio.to_thread(_first_line, pour))
            async with asyncio.timeout(COMMAND_SECONDS):
                return await _poured(port)
        finally:
            pour.communicate()


def _first_line(process: subprocess.Popen[str]) -> str:
    return "" if process.stdout is None else process.stdout.readline()


async def _poured(port: int) -> float:
    session = _Count()
    settings = LinkSettings()
    # The other side is our own child: its key is made at its start, and known by nobody.
    connecting = asyncssh.connect("127.0.0.1", port, known_hosts=None, config=None, **ALGORITHMS)
    async with connecting as connection:
        began = time.monotonic()
        await connection.create_session(
            lambda: session,
            "pour",
            encoding=None,
            window=settings.window_bytes,
            max_pktsize=settings.packet_bytes,
        )
        await session.ended.wait()
        seconds = time.monotonic() - began
    if session.bytes != POURED_BYTES:
        raise DemoFailed(f"the ssh ceiling got {session.bytes} bytes")
    return POURED_BYTES / seconds
