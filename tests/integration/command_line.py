"""Runs `hoody` and `hoodyd` as a user does: as processes, looking at what they print."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MODULES = {"hoody": "daemon.client_cli", "hoodyd": "daemon"}
SECONDS_MAX = 180


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def good(self) -> Ran:
        assert self.code == 0, (self.code, self.out, self.err[-2000:])
        return self


def environment(home: Path, **variables: str) -> dict[str, str]:
    """An environment with nothing of the tester's own but PATH."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(ROOT), **variables}


async def run(
    command: str, *arguments: str, env: dict[str, str], stdin: str = "", cwd: Path | None = None
) -> Ran:
    """Runs the command to its end."""
    async with started(command, *arguments, env=env, cwd=cwd) as process:
        async with asyncio.timeout(SECONDS_MAX):
            out, err = await process.communicate(stdin.encode())
    assert process.returncode is not None
    return Ran(process.returncode, out.decode(), err.decode())


@asynccontextmanager
async def started(
    command: str, *arguments: str, env: dict[str, str], cwd: Path | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The command as a process, which is gone when the block is left."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        MODULES[command],
        *arguments,
        env=env,
        cwd=cwd,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
