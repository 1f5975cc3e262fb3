"""The daemon's children: processes that it starts, talks to in JSON lines, and starts anew."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable

from daemon import lines, logs
from transfer.command import tied

PROGRAM = (sys.executable, "-m", "daemon")
RESTART_SECONDS = 0.5
STOP_SECONDS = 5.0

# Workers and exporters, and what they start, yield to the process that answers the API: with all
# cores busy a transfer can wait some milliseconds, a health check cannot.
DATA_PLANE_NICE = 10

log = logs.get(__name__)

OnMessage = Callable[[lines.Message], Awaitable[None]]


class Child:
    """One process: `python -m daemon <verb> --config …`."""

    def __init__(self, process: asyncio.subprocess.Process, verb: str) -> None:
        self._process = process
        self.verb = verb

    @classmethod
    async def start(cls, verb: str, config_path: str) -> Child:
        """Starts it. It ends by itself when its input does; where it hangs, the kernel ends it
        with the daemon, so that nobody else has to find it."""
        process = await asyncio.create_subprocess_exec(
            *tied([*PROGRAM, verb, "--config", config_path]),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=lines.LINE_BYTES_MAX,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            # The kernel shares the cores out by session (sched_autogroup): in ours, what a worker
            # uses would be counted against the process that answers the API.
            start_new_session=True,
        )
        return cls(process, verb)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.returncode is None

    async def read(self) -> lines.Message | None:
        """The next message; None when the process has ended, or says what is no message: then
        it is of no more use, and is to be killed."""
        assert self._process.stdout is not None  # noqa: S101 - it was started with a pipe
        try:
            line = await self._process.stdout.readline()
            message = json.loads(line) if line.endswith(b"\n") else None
        except ValueError as error:  # no JSON, or a line without an end
            log.error("child said no message", verb=self.verb, pid=self.pid, reason=str(error))
            return None
        if message is None:
            await self._process.wait()
        return message if isinstance(message, dict) else None

    def tell(self, message: lines.Message) -> None:
        """Gives it an order; one that has ended does not hear it."""
        assert self._process.stdin is not None  # noqa: S101 - it was started with a pipe
        if self.alive and not self._process.stdin.is_closing():
            self._process.stdin.write(lines.encode(message))

    async def kill(self) -> None:
        """Ends it now and reaps it."""
        if self.alive:
            self._process.kill()
        await self._process.wait()
        assert self._process.stdin is not None  # noqa: S101 - it was started with a pipe
        self._process.stdin.close()


async def keep_alive(
    verb: str, config_path: str, on_child: Callable[[Child], None], on_message: OnMessage
) -> None:
    """Runs a child for ever: starts it anew whenever it ends. Cancel this to end it."""
    while True:
        child = await Child.start(verb, config_path)
        on_child(child)
        try:
            while (message := await child.read()) is not None:
                await on_message(message)
        finally:
            await child.kill()
        log.warning("child ended; starting it anew", verb=verb, pid=child.pid)
        await asyncio.sleep(RESTART_SECONDS)
