"""`hoodyd` whose daemon forks its children from a process that has imported all they need.

    python -m tests.acceptance.nursery run --config …

For tests that start hundreds of daemons, or whose workers are killed again and again: a child that
starts a Python of its own spends 0.7 s of CPU on its imports. All else is as it was: each child is
a process with pipes of its own that ends with its input or by a signal, and nothing of one is left
to the next. Its process has the verb for a name, as its command line is the daemon's.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import socket
import sys
from dataclasses import dataclass

from daemon import children, exporter, keeper, lines, service, worker
from daemon.cli import main

ORDER_BYTES_MAX = 4096

_IMPORTED = (exporter, keeper, service, worker)
"""What children and the daemon use, and `daemon.cli` would import later: once in each."""


@dataclass
class Forked:
    """A forked process: to a Child what asyncio's own would be."""

    pid: int
    stdin: asyncio.WriteTransport
    stdout: asyncio.StreamReader

    def __post_init__(self) -> None:
        self.returncode: int | None = None
        self._ended = asyncio.Event()
        self._descriptor = os.pidfd_open(self.pid)
        asyncio.get_running_loop().add_reader(self._descriptor, self._end)

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        self.returncode = 0  # the status is the nursery's; nobody here asks for it
        self._ended.set()

    def kill(self) -> None:
        """-9."""
        signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)

    async def wait(self) -> None:
        """Returns when it has ended."""
        await self._ended.wait()


class Nursery:
    """The process that forks, which ends with the one that made it."""

    def __init__(self) -> None:
        """To be made before anything is open and any thread runs."""
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        gc.freeze()  # what is imported is never looked through, so its pages stay shared
        if os.fork() == 0:
            self._channel.close()
            _fork_for(theirs)
        theirs.close()

    async def start(self, verb: str, config_path: str) -> children.Child:
        """A child, as `Child.start` would start it."""
        loop = asyncio.get_running_loop()
        stdin, ours_in = os.pipe()
        ours_out, stdout = os.pipe()
        order = json.dumps([verb, "--config", config_path]).encode()
        socket.send_fds(self._channel, [order], [stdin, stdout])
        pid = int(self._channel.recv(ORDER_BYTES_MAX))
        os.close(stdin)
        os.close(stdout)
        reader = asyncio.StreamReader(limit=lines.LINE_BYTES_MAX)
        await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(ours_out, "rb", 0)
        )
        writer, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(ours_in, "wb", 0))
        process = Forked(pid, writer, reader)
        return children.Child(process, verb)  # type: ignore[arg-type]  # the stage


def _fork_for(channel: socket.socket) -> None:
    """Forks at each order, for ever. Returns in the child only, which has its arguments and its
    pipes then."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps them
    while True:
        order, descriptors, _, _ = socket.recv_fds(channel, ORDER_BYTES_MAX, 2)
        if not order:
            os._exit(0)
        pid = os.fork()
        if pid == 0:
            break
        for descriptor in descriptors:
            os.close(descriptor)
        channel.send(str(pid).encode())
    channel.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    for target, descriptor in enumerate(descriptors):
        os.dup2(descriptor, target)
        os.close(descriptor)
    sys.argv[1:] = json.loads(order)
    with open("/proc/self/comm", "w") as name:
        name.write(sys.argv[1])


def fork_children() -> None:
    """Has the daemon that this process becomes fork its children. Returns in each of them too,
    whose command line is that of a child then."""
    if sys.argv[1] == "run":
        nursery = Nursery()
        children.Child.start = nursery.start  # type: ignore[method-assign,assignment]  # the stage


if __name__ == "__main__":
    fork_children()
    main()
