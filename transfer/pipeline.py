"""The one loop that moves bytes: source -> encode (in a thread) -> sink, and its inverse.

Every stage closes the one that it reads from, so closing the last closes all. Between two
stages at most AHEAD items wait: the encoding of one block overlaps the sending of another, and
a slow sink holds the source back. A stage without progress for its deadline raises
TransferStalled.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from transfer.codec import BLOCK_BYTES, Decoder, Encoder
from transfer.errors import TransferStalled
from transfer.frames import Flag, Frame
from transfer.records import RecordReader, as_record

AHEAD = 2
PIECE_BYTES = 128 << 10  # what goes to a sink at once: an ssh packet

T = TypeVar("T")
Sink = Callable[[bytes | memoryview], Awaitable[None]]


class TokenBucket:
    """A limit in bytes per second, with one second's worth of burst. 0 is no limit.

    `take` answers how long to wait before the bytes may go; who takes more than there is goes
    into debt, so callers that share a bucket wait one after the other.
    """

    def __init__(self, bytes_per_second: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = bytes_per_second
        self._clock = clock
        self._tokens = float(bytes_per_second)
        self._at = clock()

    def take(self, count: int) -> float:
        """Seconds to wait before `count` bytes may go."""
        if self._rate == 0:
            return 0.0
        now = self._clock()
        self._tokens = min(float(self._rate), self._tokens + (now - self._at) * self._rate)
        self._at = now
        self._tokens -= count
        return max(0.0, -self._tokens / self._rate)

    @property
    def piece_bytes(self) -> int:
        """What may be taken at once so that no wait is longer than a second for each taker."""
        return min(PIECE_BYTES, self._rate) if self._rate else PIECE_BYTES


@dataclass(frozen=True)
class Outlet:
    """Where frames go: `sink` returns when it has room for more; all buckets limit it. `wire` says
    for how long it was at work until now, if that is known."""

    sink: Sink
    buckets: tuple[TokenBucket, ...] = ()
    stall_seconds: float = 120
    wire: Callable[[], float | None] = lambda: None

    async def send(self, frame: bytes) -> float:
        """Sends one frame; for how long the buckets held it back, in seconds. Raises
        TransferStalled and what the sink raises."""
        delayed = 0.0
        size = min((bucket.piece_bytes for bucket in self.buckets), default=PIECE_BYTES)
        whole = memoryview(frame)
        for at in range(0, len(frame), size):
            piece = whole[at : at + size]
            delay = max((bucket.take(len(piece)) for bucket in self.buckets), default=0.0)
            if delay:
                await asyncio.sleep(delay)
                delayed += delay
            async with progress_within(self.stall_seconds, "sink"):
                await self.sink(piece)
        return delayed


@asynccontextmanager
async def progress_within(stall_seconds: float, stage: str) -> AsyncIterator[None]:
    """Raises TransferStalled where the body takes longer than `stall_seconds`."""
    try:
        async with asyncio.timeout(stall_seconds) as deadline:
            yield
    except TimeoutError as error:
        if not deadline.expired():
            raise
        raise TransferStalled(
            f"no progress within {stall_seconds:g} s", stage=stage, seconds=stall_seconds
        ) from error


async def send_blocks(source: AsyncIterator[bytes], encoder: Encoder, outlet: Outlet) -> None:
    """Sends a logical stream, whatever the size of its blocks, up to and with its trailer."""
    last, last_wire = time.perf_counter(), outlet.wire()
    async with aclosing(ahead(_encoded(source, encoder, outlet.stall_seconds))) as frames:
        async for frame in frames:
            began = time.perf_counter()
            delayed = await outlet.send(frame)
            now, wire = time.perf_counter(), outlet.wire()
            if wire is None or last_wire is None:
                at_work = now - began
            else:
                at_work = delayed + wire - last_wire
            encoder.sent(now - last, at_work)
            last, last_wire = now, wire


async def send_records(source: AsyncIterator[bytes], encoder: Encoder, outlet: Outlet) -> None:
    """Sends byte strings as one logical stream of records."""
    await send_blocks(_as_records(source), encoder, outlet)


def receive_blocks(frames: AsyncIterator[Frame]) -> AsyncGenerator[bytes]:
    """The logical stream of these frames; ends only after a trailer that matched.

    Raises StreamCorrupt, and what `frames` raises.
    """
    return ahead(_decoded(frames))


async def receive_records(frames: AsyncIterator[Frame]) -> AsyncGenerator[bytes]:
    """The byte strings of a stream of records; ends only after a trailer that matched."""
    reader = RecordReader()
    async with aclosing(receive_blocks(frames)) as blocks:
        async for block in blocks:
            for record in reader.feed(block):
                yield record
    reader.finish()


async def ahead(source: AsyncGenerator[T], depth: int = AHEAD) -> AsyncGenerator[T]:
    """The same items, read in a task of its own that is at most `depth` items ahead."""
    queue: asyncio.Queue[tuple[T] | None] = asyncio.Queue(depth)

    async def fill() -> None:
        try:
            async with aclosing(source):
                async for item in source:
                    await queue.put((item,))
        finally:
            # The end comes after every item, also when it is an error.
            if not closing:
                await queue.put(None)

    closing = False
    task = asyncio.create_task(fill())
    try:
        while (held := await queue.get()) is not None:
            yield held[0]
        await task
    finally:
        closing = True
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _encoded(
    source: AsyncIterator[bytes], encoder: Encoder, stall_seconds: float
) -> AsyncGenerator[bytes]:
    held: list[bytes] = []
    held_bytes = 0
    async with aclosing(_watched(source, stall_seconds)) as blocks:
        async for block in blocks:
            held.append(block)
            held_bytes += len(block)
            if held_bytes >= BLOCK_BYTES:
                whole, rest = _cut(b"".join(held))
                for full in whole:
                    yield await _encode(encoder, full)
                held, held_bytes = [rest], len(rest)
    if held_bytes:
        yield await _encode(encoder, b"".join(held))
    yield encoder.finish()


async def _encode(encoder: Encoder, block: bytes) -> bytes:
    if encoder.will_compress:
        return await asyncio.to_thread(encoder.feed, block)
    return encoder.feed(block)


def _cut(data: bytes) -> tuple[Iterator[bytes], bytes]:
    """The full blocks of `data`, and what is left."""
    end = len(data) - len(data) % BLOCK_BYTES
    return (data[at : at + BLOCK_BYTES] for at in range(0, end, BLOCK_BYTES)), data[end:]


async def _decoded(frames: AsyncIterator[Frame]) -> AsyncGenerator[bytes]:
    decoder = Decoder()
    async with _closing(frames):
        async for frame in frames:
            # As in _encode: a thread costs more than the digests of a block that is held as it is.
            if Flag.ZSTD in frame.flags:
                block = await asyncio.to_thread(decoder.feed, frame)
            else:
                block = decoder.feed(frame)
            if decoder.ended:
                break
            yield block
    decoder.finish()


async def _watched(source: AsyncIterator[T], stall_seconds: float) -> AsyncGenerator[T]:
    async with _closing(source):
        while True:
            async with progress_within(stall_seconds, "source"):
                item = await anext(source, None)
            if item is None:
                return
            yield item


async def _as_records(source: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    async with _closing(source):
        async for content in source:
            yield as_record(content)


@asynccontextmanager
async def _closing(source: AsyncIterator[T]) -> AsyncIterator[None]:
    """Closes the source at the end where it can be closed, as all generators can."""
    try:
        yield
    finally:
        if isinstance(source, AsyncGenerator):
            await source.aclose()
