"""Servers of one cluster have the same secrets: one that has others does not start, whichever of
two comes first."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from daemon.store import servers
from daemon.store.database import Database
from daemon.store.migrate import migrate
from tests.integration.command_line import environment
from tests.ports import free_port

END_SECONDS = 180
FILES = {"secret_file": "jwt.secret", "sealing_key_file": "sealing.key"}


class Server:
    """A server with secrets of its own, but for those that it is given."""

    def __init__(self, home: Path, name: str) -> None:
        self.name = name
        self.config = home / name / "hoodyd.toml"
        self.files = {key: home / name / file for key, file in FILES.items()}
        self._home = home
        self._variables = {
            "HOODY_SERVER__NAME": name,
            "HOODY_SERVER__LISTEN": f"127.0.0.1:{free_port()}",
            "HOODY_PEER__LISTEN": f"127.0.0.1:{free_port()}",
        }

    def share(self, database: Path) -> None:
        """Joins a catalogue."""
        self._variables["HOODY_DATABASE__URL"] = f"sqlite:///{database}"

    def copy(self, key: str, other: Server) -> None:
        """Takes a secret over."""
        self.files[key].write_bytes(other.files[key].read_bytes())

    @asynccontextmanager
    async def command(self, verb: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """`hoodyd VERB`, ended as systemd would."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "daemon", verb, "--config", str(self.config)),
            env=environment(self._home, **self._variables),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            await process.communicate()

    async def refused(self, verb: str) -> str:
        """What a command that ends with exit 2 says."""
        async with self.command(verb) as process, asyncio.timeout(END_SECONDS):
            _, said = await process.communicate()
        assert process.returncode == 2, said.decode()
        (line,) = said.decode().splitlines()
        return line


@pytest.fixture
async def pair(tmp_path: Path) -> tuple[Server, Server]:
    """Two servers that were set up apart, and are then to share a new catalogue."""
    made = Server(tmp_path, "a"), Server(tmp_path, "b")
    for server in made:
        server.config.parent.mkdir()
    async with made[0].command("init") as one, made[1].command("init") as other:
        assert (await one.wait(), await other.wait()) == (0, 0)
    db = Database(f"sqlite:///{tmp_path}/shared.db")
    await migrate(db)
    await db.close()
    for server in made:
        server.share(tmp_path / "shared.db")
    return made


async def registered(tmp_path: Path) -> list[str]:
    """The servers that the shared catalogue knows."""
    db = Database(f"sqlite:///{tmp_path}/shared.db")
    async with db.read() as tx:
        names = [server.name for server in await servers.every(tx)]
    await db.close()
    return sorted(names)


@pytest.mark.parametrize("key", FILES)
async def test_of_two_that_start_at_once_one_is_told_what_to_copy(
    pair: tuple[Server, Server], key: str, tmp_path: Path
) -> None:
    one, other = pair
    for same in FILES.keys() - {key}:
        other.copy(same, one)
    async with one.command("run") as first, other.command("run") as second:
        processes = {one: first, other: second}
        ends = {asyncio.create_task(process.wait()): who for who, process in processes.items()}
        done, left = await asyncio.wait(
            ends, timeout=END_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        loser = ends[done.pop()]
        winner = ends[left.pop()]
        assert processes[loser].returncode == 2
        stderr = processes[loser].stderr
        assert stderr is not None
        said = (await stderr.read()).decode().splitlines()[-1]
        assert f"auth.{key}: copy {loser.files[key]} from server {winner.name}" in said
        assert await registered(tmp_path) == [winner.name]
    # Told again as long as it stands, also by init; and then it may come in.
    assert f"auth.{key}: copy " in await loser.refused("init")
    loser.copy(key, winner)
    async with loser.command("init") as process:
        assert await process.wait() == 0
    assert await registered(tmp_path) == ["a", "b"]
