"""The two ends of the pipe, each a process of its own: `python -m benchmarks.ends pour …` and
`… pull …`, from memory to memory through frames, zstd and asyncssh.

The one that pours says first where it listens, and at the end of its input what it used; the one
that pulls says what it took. Both say it as a line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict, dataclass
from pathlib import Path

import asyncssh

from benchmarks.sampler import sampling
from transfer.codec import BLOCK_BYTES
from transfer.model import Landing, Step, StepKind
from transfer.peer.answers import ServerSettings
from transfer.peer.client import PeerSource
from transfer.peer.link import ALGORITHMS, LinkSettings
from transfer.peer.messages import PeerRequest
from transfer.peer.server import serve

PEER = "a" * 24
JOB = "b" * 24
_PATH = f"containers/{'c' * 24}/{'d' * 24}"
_STEP = Step(StepKind.FULL, _PATH, "1", f"h-{'e' * 24}", None, Landing.NEW)


@dataclass(frozen=True, slots=True)
class Pulled:
    """What came, in how many seconds, and the CPU seconds of this end by stage."""

    seconds: float
    logical_bytes: int
    wire_bytes: int
    cpu_seconds: float
    stages: dict[str, float]


class _Memory:
    """A source of one stream, as far as a stream needs one."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def send(self, _step: Step) -> AsyncGenerator[bytes, None]:
        for at in range(0, len(self._content), BLOCK_BYTES):
            yield self._content[at : at + BLOCK_BYTES]


class _Open:
    """A gate for the one key that there is."""

    def __init__(self, key: str) -> None:
        self._key = key

    async def key_of(self, _peer_id: str) -> str | None:
        return self._key

    async def authorize(self, _peer_id: str, _request: PeerRequest) -> None:
        return


async def pour(path: str, key_path: str) -> None:
    """Serves the bytes of a file until our input ends."""
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    content = await asyncio.to_thread(Path(path).read_bytes)
    server = await serve(
        "127.0.0.1",
        0,
        host_key=host_key.export_private_key("openssh").decode(),
        storage=_Memory(content),  # type: ignore[arg-type] - nothing else is asked of it
        gate=_Open(Path(f"{key_path}.pub").read_text(encoding="ascii")),
        settings=ServerSettings(),
    )
    public = host_key.export_public_key("openssh").decode().strip()
    print(json.dumps({"port": server.port, "host_key": public}), flush=True)
    with sampling() as stages:
        await asyncio.to_thread(sys.stdin.read)
    print(json.dumps({"cpu_seconds": stages.cpu_seconds, "stages": stages.seconds}))
    await server.close()


async def pour_bare(size: str) -> None:
    """Serves so many bytes by asyncssh alone, with the product's settings."""

    async def process(process: asyncssh.SSHServerProcess[bytes]) -> None:
        block = bytes(BLOCK_BYTES)
        for _ in range(int(size) // BLOCK_BYTES):
            process.stdout.write(block)
            await process.stdout.drain()
        process.exit(0)

    class Door(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            return False

    host_key = asyncssh.generate_private_key("ssh-ed25519")
    acceptor = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=Door,
        server_host_keys=[host_key],
        process_factory=process,
        encoding=None,
        max_pktsize=LinkSettings().packet_bytes,
        **ALGORITHMS,
    )
    print(json.dumps({"port": acceptor.get_port(), "host_key": ""}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    print(json.dumps({}))
    acceptor.close()


async def pull(port: str, host_key: str, key_path: str, compression: str, limit: str) -> None:
    """Pulls all of it; `limit` is in bytes per second, 0 for none."""
    logical_bytes = 0
    async with PeerSource.connect(
        f"127.0.0.1:{port}",
        host_key=host_key,
        client_key=await asyncio.to_thread(Path(key_path).read_text),
        server_id=PEER,
        job_id=JOB,
        settings=LinkSettings(compression=compression, limit_bytes_per_second=int(limit)),
    ) as source:
        with sampling() as stages:
            began = time.monotonic()
            async with aclosing(source.send(_STEP)) as blocks:
                async for block in blocks:
                    logical_bytes += len(block)
            seconds = time.monotonic() - began
        wire_bytes = source.traffic.wire_bytes
    pulled = Pulled(seconds, logical_bytes, wire_bytes, stages.cpu_seconds, stages.seconds)
    print(json.dumps(asdict(pulled)))


class _Count(asyncssh.SSHClientSession[bytes]):
    def __init__(self) -> None:
        self.bytes = 0
        self.ended = asyncio.Event()

    def data_received(self, data: bytes, datatype: int | None) -> None:
        self.bytes += len(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set()


async def pull_bare(port: str) -> None:
    """Pulls all of it by asyncssh alone."""
    session, settings = _Count(), LinkSettings()
    # The other side is our own sibling: its key is made at its start, and known by nobody.
    connecting = asyncssh.connect(
        "127.0.0.1", int(port), known_hosts=None, config=None, **ALGORITHMS
    )
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
    print(json.dumps(asdict(Pulled(seconds, session.bytes, session.bytes, 0.0, {}))))


_ENDS = {"pour": pour, "pour-bare": pour_bare, "pull": pull, "pull-bare": pull_bare}

if __name__ == "__main__":
    asyncio.run(_ENDS[sys.argv[1]](*sys.argv[2:]))
