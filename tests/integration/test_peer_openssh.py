"""The peer port and OpenSSH's own programs: with a good key they get nothing, with none even
less. What a good key is refused is told of in the log, and nothing else is."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncssh
import pytest

from tests.integration.peer_parts import (
    CLIENT_KEY,
    JOB,
    US,
    MemorySource,
    private_text,
    serving,
)
from transfer.frames import FrameWriter
from transfer.peer.link import SUBSYSTEM
from transfer.peer.messages import GetTraits, write_request
from transfer.peer.server import PeerServer

pytestmark = pytest.mark.skipif(shutil.which("ssh") is None, reason="needs an OpenSSH client")

CLIENT_SECONDS = 60.0


@dataclass(frozen=True)
class Asked:
    """What a client asks for by its arguments, and what the log says of it. Options stand before
    the host, the command after it."""

    told: Sequence[str]
    options: Sequence[str] = ()
    command: Sequence[str] = ()


NO_SESSION: dict[str, Asked] = {
    "shell": Asked(["a shell"]),
    "terminal": Asked(["a terminal", "a shell"], ["-tt"]),
    "command": Asked(["a command"], [], ["id"]),
    "terminal-command": Asked(["a terminal", "a command"], ["-tt"], ["id"]),
    "subsystem": Asked(["the subsystem 'sftp'"], ["-s"], ["sftp"]),
    "environment": Asked(["a command"], ["-o", "SetEnv=LD_PRELOAD=/tmp/x.so"], ["id"]),
    "netcat": Asked(["a way to a port"], ["-W", "127.0.0.1:22"]),
    "tunnel": Asked(["a tunnel"], ["-w", "0:0", "-N"]),
    "remote-forward": Asked(["a port to listen on"], ["-N", "-R", "0:127.0.0.1:1"]),
    "remote-socket": Asked(["a socket to listen on"], ["-N", "-R", "/tmp/never:127.0.0.1:1"]),
    "remote-socks": Asked(["a port to listen on"], ["-N", "-R", "0"]),
    "x11": Asked(["a command"], ["-Y"], ["id"]),
}


@dataclass
class Client:
    """OpenSSH's programs, with a key that the server knows, unless another is named."""

    directory: Path
    server: PeerServer

    @property
    def port(self) -> int:
        """Where the server listens."""
        return self.server.port

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
async def client(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Client]:
    """Whatever it asks for, the log has no traces of stacks."""
    caplog.set_level(logging.WARNING)
    monkeypatch.setenv("DISPLAY", ":9")  # without one it does not ask for X11
    async with serving(MemorySource()) as server:
        yield Client(tmp_path, server)
    assert not [record for record in caplog.records if record.exc_info]


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the log says that the client has asked for."""
    lines = [record.getMessage() for record in caplog.records if record.name == "hoody.peer"]
    assert len(lines) == len(caplog.records)
    return [line.removeprefix(f"{US}: asks for ") for line in lines]


@pytest.mark.parametrize("what", NO_SESSION)
async def test_a_good_key_opens_nothing(
    client: Client, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    asked = NO_SESSION[what]
    said = await client.ssh(*asked.options, command=asked.command)
    assert b"Permission denied" not in said, "the key must be good: it is the request that fails"
    assert (b"PTY allocation request failed" in said) == ("a terminal" in asked.told)
    assert (b"X11 forwarding request failed" in said) == (what == "x11")
    assert told(caplog) == asked.told


async def test_no_files_are_copied(client: Client, caplog: pytest.LogCaptureFixture) -> None:
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
    assert Counter(told(caplog)) == {"the subsystem 'sftp'": 3, "a command": 2}


async def test_no_agent_is_forwarded(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    """The key comes from an agent, which the server then may not ask, though it serves this
    client: it asks for our subsystem."""
    key = str(client.key())
    options = client.options[:2] + client.options[4:]  # without the key's file
    ssh = ["ssh", *options, "-A", "-p", str(client.port), "-l", US, "-s", "127.0.0.1", SUBSYSTEM]
    script = 'ssh-add -q "$1" && rm "$1" && shift && exec "$@"'
    process = await asyncio.create_subprocess_exec(
        *("ssh-agent", "sh", "-c", script, "sh", key, *ssh),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(write_request(FrameWriter(), GetTraits(JOB)))
        async with asyncio.timeout(CLIENT_SECONDS):
            assert await process.stdout.read(1)
        (connection,) = client.server.connections
        assert connection.get_agent_path() is None
    finally:
        process.kill()
        await process.communicate()
    assert told(caplog) == []


@pytest.mark.parametrize("what", ["port", "socket"])
async def test_nothing_is_reached_through_us(
    client: Client, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A forwarded local port leads nowhere."""
    reached = asyncio.Event()

    def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.set()
        writer.close()

    near, far = client.directory / "near", client.directory / "far"
    if what == "port":
        inner = await asyncio.start_server(accept, "127.0.0.1", 0)
        goal = f"127.0.0.1:{inner.sockets[0].getsockname()[1]}"
    else:
        inner, goal = await asyncio.start_unix_server(accept, far), str(far)
    where = ["-p", str(client.port), "-l", US, "-N", "-L", f"{near}:{goal}"]
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
        process.kill()  # on SIGTERM it may wait for the next packet, a keepalive
        _, said = await process.communicate()
        inner.close()
        await inner.wait_closed()
    assert b"open failed" in said
    assert not reached.is_set()
    assert told(caplog) == [f"a way to a {what}"]


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
