"""The peer port and OpenSSH's own programs: with a good key they get nothing, with none even
less. What is refused is told of in a line, and nothing else is logged."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncssh
import pytest

from tests.integration.peer_parts import CLIENT_KEY, US, MemorySource, private_text, serving

pytestmark = pytest.mark.skipif(shutil.which("ssh") is None, reason="needs an OpenSSH client")

CLIENT_SECONDS = 60.0
LINES_MAX = 2  # of a log, for one client

NO_SESSION: dict[str, Sequence[str]] = {
    "shell": [],
    "terminal": ["-tt"],
    "command": ["id"],
    "terminal-command": ["-tt", "id"],
    "subsystem": ["-s", "sftp"],
    "environment": ["-o", "SetEnv=LD_PRELOAD=/tmp/x.so", "id"],
    "netcat": ["-W", "127.0.0.1:22"],
    "tunnel": ["-w", "0:0", "-N"],
    "remote-forward": ["-N", "-R", "0:127.0.0.1:1"],
    "remote-socket": ["-N", "-R", "/tmp/never:127.0.0.1:1"],
    "remote-socks": ["-N", "-R", "0"],
    "x11": ["-X", "id"],
}
"""What a client asks for in its arguments; options before the host, a command after it."""


@dataclass
class Client:
    """OpenSSH's programs, with a key that the server knows, unless another is named."""

    directory: Path
    port: int

    @property
    def options(self) -> list[str]:
        """Nothing of this machine's or user's settings; no questions."""
        known = self.directory / "known_hosts"
        return [
            *("-F", "none", "-i", str(self.key())),
            *("-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={known}"),
            *("-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes"),
        ]

    def key(self, key: asyncssh.SSHKey = CLIENT_KEY) -> Path:
        """The file of a private key."""
        path = self.directory / "key"
        path.touch(mode=0o600)
        path.write_text(private_text(key))
        return path

    async def run(self, *argv: str) -> tuple[int, bytes, bytes]:
        """Exit status and what was said."""
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(CLIENT_SECONDS):
                out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return process.returncode, out, err

    async def ssh(self, *before: str, user: str = US, command: Sequence[str] = ()) -> bytes:
        """Runs ssh, which must fail and bring nothing; what it said."""
        where = ["-p", str(self.port), "-l", user]
        status, out, err = await self.run(
            "ssh", *self.options, *where, *before, "127.0.0.1", *command
        )
        assert status != 0
        assert out == b""
        return err


@pytest.fixture
async def client(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Client]:
    caplog.set_level(logging.WARNING)
    async with serving(MemorySource()) as server:
        yield Client(tmp_path, server.port)
    for record in caplog.records:
        assert record.exc_info is None, record.getMessage()
    assert len(caplog.records) <= LINES_MAX, [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("what", NO_SESSION)
async def test_a_good_key_opens_nothing(client: Client, what: str) -> None:
    asked = NO_SESSION[what]
    command = [asked[-1]] if asked and asked[-1] in ("id", "sftp") else []
    said = await client.ssh(*asked[: len(asked) - len(command)], command=command)
    assert b"Permission denied" not in said, "the key must be good: it is the request that fails"


async def test_no_files_are_copied(client: Client) -> None:
    """Neither way, by the new protocol nor by the old."""
    port, there = ["-P", str(client.port)], f"{US}@127.0.0.1:/etc/passwd"
    here = client.directory / "got"
    for program in (["scp"], ["scp", "-O"], ["sftp", "-b", "/dev/null"]):
        argv = [*program, *client.options, *port, there]
        status, _, _ = (
            await client.run(*argv, str(here)) if program[0] == "scp" else (await client.run(*argv))
        )
        assert status != 0
        assert not here.exists()
    own = str(client.key())
    for program in (["scp"], ["scp", "-O"]):
        status, _, _ = await client.run(*program, *client.options, *port, own, there)
        assert status != 0


async def test_no_agent_is_forwarded(client: Client) -> None:
    """The key comes from an agent, which the server then may not ask."""
    key = str(client.key())
    options = client.options[:2] + client.options[4:]  # without the key's file
    ssh = ["ssh", *options, "-A", "-v", "-p", str(client.port), "-l", US, "127.0.0.1", "id"]
    script = 'ssh-add -q "$1" && rm "$1" && shift && exec "$@"'
    status, out, err = await client.run("ssh-agent", "sh", "-c", script, "sh", key, *ssh)
    assert status != 0
    assert out == b""
    assert b"Authenticated to" in err, "the agent's key must be good"
    assert b"failed on channel" in err


async def test_nothing_is_reached_through_us(client: Client) -> None:
    """A forwarded local port leads nowhere."""
    reached = asyncio.Event()

    def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.set()
        writer.close()

    inner = await asyncio.start_server(accept, "127.0.0.1", 0)
    goal, near = inner.sockets[0].getsockname()[1], client.directory / "near"
    where = ["-p", str(client.port), "-l", US, "-N", "-L", f"{near}:127.0.0.1:{goal}"]
    process = await asyncio.create_subprocess_exec(
        "ssh", *client.options, *where, "127.0.0.1", stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(CLIENT_SECONDS):
            while not near.exists():
                assert process.returncode is None
                await asyncio.sleep(0.02)
            reader, writer = await asyncio.open_unix_connection(str(near))
            assert await reader.read() == b""
        writer.close()
    finally:
        process.terminate()
        _, said = await process.communicate()
        inner.close()
        await inner.wait_closed()
    assert b"open failed" in said
    assert not reached.is_set()


@pytest.mark.parametrize("who", ["user", "key"])
async def test_strangers_do_not_get_in(client: Client, who: str) -> None:
    if who == "user":
        said = await client.ssh(user="root", command=["id"])
    else:
        stranger = client.directory / "stranger"
        stranger.touch(mode=0o600)
        stranger.write_text(private_text(asyncssh.generate_private_key("ssh-ed25519")))
        options = client.options
        options[options.index("-i") + 1] = str(stranger)
        where = ["-p", str(client.port), "-l", US, "127.0.0.1", "id"]
        status, out, said = await client.run("ssh", *options, *where)
        assert (status, out) == (255, b"")
    assert b"Permission denied (publickey)" in said


@pytest.mark.parametrize("method", ["password", "keyboard-interactive", "hostbased", "none"])
async def test_keys_are_the_only_way_in(client: Client, method: str) -> None:
    said = await client.ssh("-o", f"PreferredAuthentications={method}", command=["id"])
    assert b"Permission denied (publickey)" in said
