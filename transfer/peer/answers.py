"""Answering one request on one channel: read, judge, serve, tell of errors."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from transfer.codec import Encoder
from transfer.errors import PeerRefused, PeerUnreachable, TransferError, TransferStalled
from transfer.frames import FrameType, FrameWriter
from transfer.peer import messages
from transfer.peer.channel import Duplex
from transfer.peer.link import CHANNELS_MAX, LOGIN_SECONDS
from transfer.peer.messages import PeerRequest, StreamRequest
from transfer.peer.refusals import Refusals
from transfer.peer.traffic import Traffic
from transfer.pipeline import (
    Outlet,
    TokenBucket,
    progress_within,
    send_blocks,
    send_records,
)
from transfer.storage.base import Source

REQUEST_SECONDS = 10  # from an open channel to a whole request
ANSWER_SECONDS_MAX = 6 * 3600  # for a snapshot of a large tree by copying
ALIVE_SECONDS_MAX = 10

T = TypeVar("T")


class Gate(Protocol):
    """Who may connect, and what a request may have."""

    async def key_of(self, peer_id: str) -> str | None:
        """The public key (OpenSSH text) pinned for a server; None for an unknown one."""
        ...

    async def authorize(self, peer_id: str, request: PeerRequest) -> None:
        """Raises PeerRefused where that peer may not have this."""
        ...


@dataclass(frozen=True)
class ServerSettings:
    """The limit (0 is none) holds on the wire for all that this process sends. With `reuse_port`
    several processes serve one port. Who has not logged in after `login_seconds` is dropped."""

    limit_bytes_per_second: int = 0
    stall_seconds: float = 120
    reuse_port: bool = True
    login_seconds: float = LOGIN_SECONDS


class Answers:
    """Serves what the gate allows of a storage."""

    def __init__(
        self, storage: Source, gate: Gate, settings: ServerSettings, refusals: Refusals
    ) -> None:
        self._storage = storage
        self._gate = gate
        self._settings = settings
        self._refusals = refusals
        self._bucket = TokenBucket(settings.limit_bytes_per_second)
        self._channels: Counter[tuple[str, str]] = Counter()  # of each peer's job
        self.traffic = Traffic()

    async def serve(self, peer_id: str, channel: Duplex) -> None:
        """Answers the channel's one request, also with its error, and closes the channel."""
        writer = FrameWriter()
        job_id: str | None = None
        with ExitStack() as stack:
            stack.callback(channel.close)
            try:
                request = await _request(channel)
                job_id = request.job_id
                channel.charge(self.traffic.meter(request))
                stack.enter_context(self._counted(peer_id, request.job_id))
                await self._answer(peer_id, request, channel, writer)
            except PeerUnreachable:
                return
            except TransferError as error:
                self.traffic.stalls += isinstance(error, TransferStalled)
                level = logging.WARNING if isinstance(error, PeerRefused) else logging.INFO
                self._refusals.tell(peer_id, f"{error.code}: {error.message}", level, job_id)
                with suppress(PeerUnreachable):
                    await channel.send(messages.write_error(writer, error))
            # The peer closes when it has read everything; one that does not is not waited for.
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.stall_seconds):
                    await channel.finish()

    @contextmanager
    def _counted(self, peer_id: str, job_id: str) -> Iterator[None]:
        """Raises PeerUnreachable where the job has all its channels, over whichever links: the
        peer tries again, by when those that an earlier attempt has left are gone."""
        job = (peer_id, job_id)
        if self._channels[job] >= CHANNELS_MAX:
            too_many = f"more than {CHANNELS_MAX} channels of a job"
            self._refusals.tell(peer_id, too_many, job_id=job_id)
            raise PeerUnreachable("the job has all its channels", job=job_id)
        self._channels[job] += 1
        try:
            yield
        finally:
            self._channels[job] -= 1
            if not self._channels[job]:
                del self._channels[job]

    async def _answer(
        self, peer_id: str, request: PeerRequest, channel: Duplex, writer: FrameWriter
    ) -> None:
        await self._gate.authorize(peer_id, request)
        if isinstance(request, StreamRequest):
            with self.traffic.underway(request):
                await self._stream(channel, writer, request)
        else:
            value = await self._kept_alive(channel, writer, self._value(request))
            await channel.send(messages.write_answer(writer, value))

    async def _stream(self, channel: Duplex, writer: FrameWriter, request: StreamRequest) -> None:
        encoder = Encoder(writer, request.compression)
        buckets = (self._bucket, TokenBucket(request.limit_bytes_per_second))
        stall_seconds = self._settings.stall_seconds
        outlet = Outlet(channel.send, buckets, stall_seconds, channel.wire_seconds)
        source, counted = self._storage, channel.meter.counted
        match request:
            case messages.Send():
                await send_blocks(counted(source.send(request.step)), encoder, outlet)
            case messages.TreeNodes():
                nodes = source.tree_nodes(request.snapshot, request.paths)
                await send_records(counted(nodes), encoder, outlet)
            case messages.TreeChunkLists():
                lists = source.tree_chunk_lists(request.snapshot, request.paths)
                await send_records(counted(lists), encoder, outlet)
            case messages.TreeChunks():
                chunks = source.tree_chunks(request.snapshot, request.wants)
                await send_records(counted(chunks), encoder, outlet)

    async def _value(self, request: PeerRequest) -> object:
        source, tag = self._storage, messages.hold_tag(request.job_id)
        match request:
            case messages.GetTraits():
                return await source.traits()
            case messages.GetLineage():
                return await source.lineage(request.snapshots)
            case messages.TakeSnapshot():
                return await source.snapshot(request.dataset, request.name, tag)
            case messages.AskUnchanged():
                return await source.unchanged(request.dataset, request.since, request.name)
            case messages.Hold():
                await source.hold(request.snapshots, tag)
                return None
            case messages.Release():
                await source.release(request.snapshots, tag)
                return None
            case messages.GetSize():
                return await source.size(request.step)
            case messages.GetTreeRoot():
                return await source.tree_root(request.snapshot)
            case _:
                raise PeerRefused("no such request")

    async def _kept_alive(
        self, channel: Duplex, writer: FrameWriter, work: Coroutine[Any, Any, T]
    ) -> T:
        """The result of work that may take long, for which the peer must not count us stalled."""
        every_seconds = min(ALIVE_SECONDS_MAX, self._settings.stall_seconds / 4)
        task = asyncio.create_task(work)
        try:
            async with progress_within(ANSWER_SECONDS_MAX, "answer"):
                while not (await asyncio.wait([task], timeout=every_seconds))[0]:
                    await channel.send(writer.frame(FrameType.ALIVE))
            return task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _request(channel: Duplex) -> PeerRequest:
    frames = channel.frames(REQUEST_SECONDS)
    try:
        async with progress_within(REQUEST_SECONDS, "request"):
            async for frame in frames:
                return messages.read_request(frame)
    finally:
        await frames.aclose()
    raise PeerRefused("a channel without a request")
