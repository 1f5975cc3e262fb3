"""One ssh channel as a byte duplex: counted, bounded, and with errors of ours."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from transfer.errors import PeerUnreachable
from transfer.frames import Frame, FrameReader, FrameType
from transfer.peer.messages import read_error
from transfer.peer.wire import busy_seconds
from transfer.pipeline import progress_within

HELD_BYTES_HIGH = 4 << 20  # beyond this the peer is held back, by the channel's window
HELD_BYTES_LOW = 1 << 20


@dataclass
class Meter:
    """Bytes of channels, after compression and before ssh; and before compression those of the
    streams in them."""

    sent_bytes: int = 0
    received_bytes: int = 0
    logical_bytes: int = 0

    @property
    def wire_bytes(self) -> int:
        """Both ways."""
        return self.sent_bytes + self.received_bytes

    async def counted(self, items: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """The same items of a stream, counted as they pass; they are closed with it."""
        try:
            async for item in items:
                self.logical_bytes += len(item)
                yield item
        finally:
            if isinstance(items, AsyncGenerator):
                await items.aclose()


class Flow(Protocol):
    """What a duplex uses of an ssh channel."""

    def write(self, data: bytes | memoryview) -> None:
        """Queues a copy of the bytes; raises OSError where the channel is closed."""

    def write_eof(self) -> None:
        """Ends this direction."""

    def close(self) -> None:
        """Ends both, after what is queued."""

    def pause_reading(self) -> None:
        """Holds the other side back, by the window."""

    def resume_reading(self) -> None:
        """Undoes `pause_reading`; may deliver before it returns."""

    def get_extra_info(self, name: str) -> Any:
        """Among others the `socket` of the connection below, if there is one."""


class Duplex:
    """The session behind a channel: asyncssh calls the upper half, we use the lower."""

    def __init__(self, meter: Meter, on_lost: Callable[[], object]) -> None:
        self.meter = meter
        self._on_lost = on_lost
        self._flow: Flow | None = None
        self._chunks: deque[bytes] = deque()
        self._held_bytes = 0
        self._held_back = False
        self._ended = False
        self._lost: PeerUnreachable | None = None
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._closed = asyncio.Event()

    def charge(self, meter: Meter) -> None:
        """Counts on this meter from now on, and also what was counted so far."""
        meter.sent_bytes += self.meter.sent_bytes
        meter.received_bytes += self.meter.received_bytes
        self.meter = meter

    def opened(self, flow: Flow) -> None:
        """The channel is there."""
        self._flow = flow

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Takes what has come; parsing is done by who reads."""
        self.meter.received_bytes += len(data)
        self._chunks.append(data)
        self._held_bytes += len(data)
        self._readable.set()
        if self._held_bytes > HELD_BYTES_HIGH and not self._held_back and self._flow:
            self._held_back = True
            self._flow.pause_reading()

    def eof_received(self) -> bool:
        """The other side sends no more; this side still may."""
        self._ended = True
        self._readable.set()
        return True

    def pause_writing(self) -> None:
        """The window is used up."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """There is room again."""
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is closed; `exc` where that is the link's fault."""
        self._lost = PeerUnreachable(
            f"the connection to the peer was lost: {exc}" if exc else "the peer closed the channel"
        )
        for event in (self._readable, self._writable, self._closed):
            event.set()
        self._on_lost()

    async def send(self, data: bytes | memoryview) -> None:
        """Sends; returns when there is room for more. Raises PeerUnreachable."""
        if self._lost or self._flow is None:
            raise self._lost or PeerUnreachable("the channel is not open")
        try:
            self._flow.write(data)
        except OSError as error:
            raise PeerUnreachable(f"the channel is closed: {error}") from error
        self.meter.sent_bytes += len(data)
        await self._writable.wait()
        if self._lost:
            raise self._lost

    def wire_seconds(self) -> float | None:
        """For how long the wire below was at work until now, whatever channel's bytes it had; None
        where that is not known."""
        connection = self._flow.get_extra_info("socket") if self._flow else None
        return None if connection is None else busy_seconds(connection)

    async def receive(self) -> bytes:
        """Some bytes; empty at the end of the stream. Raises PeerUnreachable."""
        while not self._chunks:
            if self._ended:
                return b""
            if self._lost:
                raise self._lost
            self._readable.clear()
            await self._readable.wait()
        data = self._chunks.popleft()
        self._held_bytes -= len(data)
        if self._held_back and self._held_bytes < HELD_BYTES_LOW:
            self._take_all()
        return data

    def _take_all(self) -> None:
        """Lets the peer go on, and takes all that asyncssh holds by now, a window at most.

        asyncssh (2.24, `SSHChannel._deliver_data`) opens the window again for what has arrived,
        not for what it has handed to us. To hold the peer back once more before its buffer is
        empty would let another window come each time, and memory grow without a limit.
        """
        if self._flow:
            self._flow.resume_reading()
            self._held_back = self._held_bytes > HELD_BYTES_HIGH
            if self._held_back:
                self._flow.pause_reading()

    async def frames(self, stall_seconds: float) -> AsyncGenerator[Frame, None]:
        """The frames that come, up to the end of the stream.

        Raises the peer's own error, StreamCorrupt, PeerUnreachable, TransferStalled.
        """
        reader = FrameReader()
        while True:
            async with progress_within(stall_seconds, "peer"):
                data = await self.receive()
            if not data:
                break
            for frame in reader.feed(data):
                if frame.type is FrameType.ERROR:
                    raise read_error(frame)
                if frame.type is not FrameType.ALIVE:
                    yield frame
        reader.finish()

    async def finish(self) -> None:
        """Ends our direction and waits for the other side to close the channel, so that nothing
        that it has not read yet is lost."""
        if self._lost is None and self._flow is not None:
            self._flow.write_eof()
            await self._closed.wait()

    def close(self) -> None:
        """Closes the channel."""
        if self._lost is None and self._flow is not None:
            self._flow.close()
