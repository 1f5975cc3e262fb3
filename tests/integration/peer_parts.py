"""The parts of the peer tests: a small storage in memory, a gate, keys, and a cuttable proxy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import asyncssh
from xxhash import xxh3_128_digest

from transfer.errors import PeerRefused, SnapshotMissing, SourceChanged
from transfer.model import (
    Dataset,
    Forest,
    Guid,
    Landing,
    Snapshot,
    Step,
    StepKind,
    Traits,
)
from transfer.peer.answers import ServerSettings
from transfer.peer.client import PeerSource
from transfer.peer.link import LinkSettings
from transfer.peer.messages import PeerRequest, Want
from transfer.peer.server import PeerServer, serve

JOB = "5" * 24
TAG = f"hoody-{JOB}"
US = "a" * 24
PATH = f"containers/{'c' * 24}/{'d' * 24}"
NAME = f"h-{'e' * 24}"
GUID = "12345678901234567890"
HOST_KEY = asyncssh.generate_private_key("ssh-ed25519")
CLIENT_KEY = asyncssh.generate_private_key("ssh-ed25519")
STEP = Step(StepKind.FULL, PATH, GUID, NAME, None, Landing.NEW)


def private_text(key: asyncssh.SSHKey) -> str:
    return key.export_private_key("openssh").decode()


def public_text(key: asyncssh.SSHKey) -> str:
    return key.export_public_key("openssh").decode().strip()


@dataclass
class MemorySource:
    """One dataset with one snapshot, whose stream and files are given."""

    blocks: Sequence[bytes] = ()
    files: dict[bytes, bytes] = field(default_factory=dict)
    holds: set[tuple[Guid, str]] = field(default_factory=set)
    closed_early: asyncio.Event = field(default_factory=asyncio.Event)
    sent_blocks: int = 0

    async def traits(self) -> Traits:
        return Traits("memory", native=True, mtime_ns=1_000_000_000)

    async def lineage(self, guids: Sequence[Guid]) -> Forest:
        if GUID not in guids:
            return Forest()
        return Forest.of([Dataset(PATH, None, (self._snapshot(NAME),), used_bytes=7)])

    async def snapshot(self, path: str, name: str, tag: str) -> Snapshot:
        await self.hold([GUID], tag)
        return self._snapshot(name)

    async def hold(self, guids: Sequence[Guid], tag: str) -> None:
        if set(guids) != {GUID}:
            raise SnapshotMissing("no such snapshot", guids=list(guids))
        self.holds |= {(guid, tag) for guid in guids}

    async def release(self, guids: Sequence[Guid], tag: str) -> None:
        self.holds -= {(guid, tag) for guid in guids}

    async def size(self, step: Step) -> int:
        return sum(map(len, self.blocks))

    async def send(self, step: Step) -> AsyncGenerator[bytes, None]:
        if step.snapshot != GUID:
            raise SourceChanged("the snapshot is gone", guid=step.snapshot)
        try:
            for block in self.blocks:
                self.sent_blocks += 1
                yield block
        except GeneratorExit:
            self.closed_early.set()
            raise

    async def tree_root(self, guid: Guid) -> bytes:
        return xxh3_128_digest(b"".join(self.files))

    async def tree_nodes(self, guid: Guid, paths: Sequence[bytes]) -> AsyncIterator[bytes]:
        for path in paths:
            yield b"node of " + path

    async def tree_chunk_lists(self, guid: Guid, paths: Sequence[bytes]) -> AsyncIterator[bytes]:
        for path in paths:
            yield xxh3_128_digest(self.files[path])

    async def tree_chunks(self, guid: Guid, wants: Sequence[Want]) -> AsyncIterator[bytes]:
        for path, first, count in wants:
            for index in range(first, first + count):
                yield self.files[path][index : index + 1]

    def _snapshot(self, name: str) -> Snapshot:
        return Snapshot(GUID, name, PATH, order=3, referenced_bytes=5, holds=len(self.holds))


class StuckSource(MemorySource):
    """Sends one block and then no more, nor does it end."""

    async def send(self, step: Step) -> AsyncGenerator[bytes, None]:
        yield bytes(1 << 20)
        try:
            await asyncio.Event().wait()
        finally:
            self.closed_early.set()


class SlowSource(MemorySource):
    """Answers at last, after the link has been silent for longer than the stall deadline."""

    async def tree_root(self, guid: Guid) -> bytes:
        await asyncio.sleep(1.0)
        return bytes(16)


@dataclass
class OneKeyGate:
    """Knows one key, and refuses what it is told to refuse."""

    refused: type[PeerRequest] | None = None
    known: Sequence[str] = (US,)
    asked: list[PeerRequest] = field(default_factory=list)

    async def key_of(self, peer_id: str) -> str | None:
        return public_text(CLIENT_KEY) if peer_id in self.known else None

    async def authorize(self, peer_id: str, request: PeerRequest) -> None:
        self.asked.append(request)
        if peer_id not in self.known or type(request) is self.refused:
            raise PeerRefused("not for you", job=request.job_id)


@asynccontextmanager
async def serving(
    source: MemorySource, gate: OneKeyGate | None = None, settings: ServerSettings | None = None
) -> AsyncIterator[PeerServer]:
    server = await serve(
        "127.0.0.1",
        0,
        host_key=private_text(HOST_KEY),
        storage=source,
        gate=gate or OneKeyGate(),
        settings=settings or ServerSettings(),
    )
    try:
        yield server
    finally:
        await server.close()


@asynccontextmanager
async def connected(
    port: int,
    settings: LinkSettings | None = None,
    *,
    host_key: asyncssh.SSHKey = HOST_KEY,
    client_key: asyncssh.SSHKey = CLIENT_KEY,
    server_id: str = US,
    job_id: str = JOB,
) -> AsyncIterator[PeerSource]:
    async with PeerSource.connect(
        f"127.0.0.1:{port}",
        host_key=public_text(host_key),
        client_key=private_text(client_key),
        server_id=server_id,
        job_id=job_id,
        settings=settings or LinkSettings(),
    ) as peer:
        yield peer


@dataclass
class Proxy:
    """A TCP proxy; from `bytes_until_fault` bytes of the server on, it cuts or damages them."""

    port: int
    bytes_until_fault: int | None = None
    flips: bool = False

    async def listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._relay, "127.0.0.1", 0)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.port)
        up = asyncio.create_task(self._copy(reader, back, None))
        await self._copy(there, writer, self.bytes_until_fault)
        up.cancel()
        for end in (back, writer):
            end.close()
            with suppress(ConnectionError):
                await end.wait_closed()

    async def _copy(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, left: int | None
    ) -> None:
        with suppress(ConnectionError):
            while data := await source.read(1 << 16):
                if left is not None and len(data) >= left:
                    if not self.flips:
                        return
                    data, left = data[: left - 1] + bytes([data[left - 1] ^ 1]) + data[left:], None
                elif left is not None:
                    left -= len(data)
                target.write(data)
                await target.drain()


@asynccontextmanager
async def proxied(port: int, bytes_until_fault: int, flips: bool = False) -> AsyncIterator[int]:
    """A port that leads to `port` until the server has sent so many bytes."""
    listener = await Proxy(port, bytes_until_fault, flips).listen()
    async with listener:
        yield listener.sockets[0].getsockname()[1]
