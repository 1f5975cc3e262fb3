"""The pipeline: bytes arrive whole and in order, bounded, closed, limited, and never stuck."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfer.codec import BLOCK_BYTES, Encoder
from transfer.errors import SourceChanged, StreamCorrupt, TransferStalled
from transfer.frames import Frame, FrameReader, FrameType, FrameWriter
from transfer.pipeline import (
    AHEAD,
    Outlet,
    TokenBucket,
    ahead,
    receive_blocks,
    receive_records,
    send_blocks,
    send_records,
)

T = TypeVar("T")


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


async def giving(items: Sequence[T]) -> AsyncGenerator[T, None]:
    for item in items:
        yield item


async def sent(blocks: Sequence[bytes], compression: str = "auto") -> bytes:
    wire = bytearray()

    async def sink(data: bytes) -> None:
        wire.extend(data)

    await send_blocks(giving(blocks), Encoder(FrameWriter(), compression), Outlet(sink))
    return bytes(wire)


async def received(wire: bytes) -> list[bytes]:
    return [block async for block in receive_blocks(giving(FrameReader().feed(wire)))]


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_any_blocks_arrive_as_the_same_bytes(blocks: list[bytes]) -> None:
    async def there_and_back() -> list[bytes]:
        return await received(await sent(blocks))

    assert b"".join(asyncio.run(there_and_back())) == b"".join(blocks)


async def test_blocks_are_cut_and_joined_to_frames_of_one_size() -> None:
    large = bytes(range(256)) * 13_000
    blocks = [b"a", large, b"b" * 100]
    arrived = await received(await sent(blocks))
    assert b"".join(arrived) == b"".join(blocks)
    assert {len(block) for block in arrived[:-1]} == {BLOCK_BYTES}


async def test_a_stream_cut_at_any_frame_is_corrupt() -> None:
    wire = await sent([bytes([number]) * BLOCK_BYTES for number in range(3)])
    frames = FrameReader().feed(wire)
    for count in range(len(frames)):
        with pytest.raises(StreamCorrupt, match="without its trailer"):
            [block async for block in receive_blocks(giving(frames[:count]))]


async def test_records_arrive_one_by_one() -> None:
    records = [b"", b"x" * 10, bytes(3 * BLOCK_BYTES), b"y"]
    wire = bytearray()

    async def sink(data: bytes) -> None:
        wire.extend(data)

    await send_records(giving(records), Encoder(FrameWriter()), Outlet(sink))
    frames = giving(FrameReader().feed(bytes(wire)))
    assert [record async for record in receive_records(frames)] == records


async def test_many_small_records_compress_together() -> None:
    records = [b"some line of a file, number %d" % number for number in range(10_000)]
    wire = bytearray()

    async def sink(data: bytes) -> None:
        wire.extend(data)

    await send_records(giving(records), Encoder(FrameWriter()), Outlet(sink))
    assert len(wire) * 5 < sum(map(len, records))


async def test_a_cut_record_is_corrupt_though_the_stream_is_whole() -> None:
    frames = FrameReader().feed(await sent([b"\0\0\0\x09short"]))
    with pytest.raises(StreamCorrupt, match="inside a record"):
        [record async for record in receive_records(giving(frames))]


async def test_a_slow_sink_holds_the_source_back() -> None:
    given_blocks = 0
    gate = asyncio.Event()
    blocked = asyncio.Event()

    async def source() -> AsyncGenerator[bytes, None]:
        nonlocal given_blocks
        for _ in range(50):
            given_blocks += 1
            yield bytes(BLOCK_BYTES)

    async def sink(data: bytes) -> None:
        blocked.set()
        await gate.wait()

    sending = asyncio.create_task(
        send_blocks(source(), Encoder(FrameWriter(), "none"), Outlet(sink))
    )
    await blocked.wait()
    for _ in range(100):
        await asyncio.sleep(0)
    # One in the sink, AHEAD in the queue, one that waits for a place in it.
    assert given_blocks <= AHEAD + 2
    gate.set()
    await sending
    assert given_blocks == 50


async def test_an_error_of_the_source_comes_after_what_it_gave() -> None:
    async def source() -> AsyncGenerator[bytes, None]:
        yield b"x" * BLOCK_BYTES
        raise SourceChanged("gone")

    wire = bytearray()

    async def sink(data: bytes) -> None:
        wire.extend(data)

    with pytest.raises(SourceChanged):
        await send_blocks(source(), Encoder(FrameWriter()), Outlet(sink))
    assert [frame.type for frame in FrameReader().feed(bytes(wire))] == [FrameType.DATA]


async def test_a_source_without_progress_is_stalled_and_closed() -> None:
    closed = asyncio.Event()

    async def source() -> AsyncGenerator[bytes, None]:
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            closed.set()

    async def sink(data: bytes) -> None:
        pass

    with pytest.raises(TransferStalled) as caught:
        await send_blocks(source(), Encoder(FrameWriter()), Outlet(sink, stall_seconds=0.02))
    assert caught.value.evidence["stage"] == "source"
    assert closed.is_set()


async def test_a_sink_without_progress_is_stalled() -> None:
    closed = asyncio.Event()

    async def source() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield bytes(BLOCK_BYTES)
        finally:
            closed.set()

    async def sink(data: bytes) -> None:
        await asyncio.Event().wait()

    with pytest.raises(TransferStalled) as caught:
        await send_blocks(source(), Encoder(FrameWriter()), Outlet(sink, stall_seconds=0.02))
    assert caught.value.evidence["stage"] == "sink"
    assert closed.is_set()


async def test_a_timeout_of_the_sinks_own_is_no_stall() -> None:
    async def sink(data: bytes) -> None:
        raise TimeoutError("of the sink")

    with pytest.raises(TimeoutError, match="of the sink"):
        await send_blocks(giving([b"x"]), Encoder(FrameWriter()), Outlet(sink))


async def test_closing_the_end_closes_the_beginning() -> None:
    closed = asyncio.Event()
    wire = await sent([bytes(BLOCK_BYTES)] * 5)

    async def frames() -> AsyncGenerator[Frame, None]:
        try:
            for frame in FrameReader().feed(wire):
                yield frame
        finally:
            closed.set()

    async with aclosing(receive_records(frames())) as records:
        await anext(records)
    assert closed.is_set()


async def test_reading_ahead_keeps_order_and_raises_late() -> None:
    async def source() -> AsyncGenerator[int, None]:
        for number in range(5):
            yield number
        raise SourceChanged("after five")

    seen: list[int] = []
    with pytest.raises(SourceChanged):
        async for number in ahead(source()):
            seen.append(number)
    assert seen == [0, 1, 2, 3, 4]


def test_a_bucket_lets_through_no_more_than_its_rate() -> None:
    clock = Clock()
    bucket = TokenBucket(1000, clock)
    began, moved = clock.seconds, 0
    while moved < 50_000:
        clock.seconds += bucket.take(400)
        moved += 400
    # One second's worth is the burst that it begins with.
    assert clock.seconds - began == pytest.approx((50_000 - 1000) / 1000)


def test_a_bucket_does_not_save_up_for_more_than_a_second() -> None:
    clock = Clock()
    bucket = TokenBucket(1000, clock)
    clock.seconds += 3600
    assert bucket.take(1000) == 0
    assert bucket.take(500) == pytest.approx(0.5)


def test_two_takers_share_a_bucket() -> None:
    bucket = TokenBucket(1000, Clock())
    assert [bucket.take(1000), bucket.take(1000), bucket.take(1000)] == [0, 1, 2]


def test_no_limit_never_waits() -> None:
    bucket = TokenBucket(0, Clock())
    assert bucket.take(1 << 40) == 0


async def test_the_lower_limit_counts_and_wire_bytes_do(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    wire = 0

    async def pass_time(seconds: float) -> None:
        clock.seconds += seconds

    async def sink(data: bytes) -> None:
        nonlocal wire
        wire += len(data)

    monkeypatch.setattr("transfer.pipeline.asyncio.sleep", pass_time)
    outlet = Outlet(sink, (TokenBucket(50_000, clock), TokenBucket(10_000, clock)))
    frame = FrameWriter().frame(FrameType.DATA, bytes(100_000))
    began = clock.seconds
    await outlet.send(frame)
    assert wire == len(frame)
    assert clock.seconds - began == pytest.approx((len(frame) - 10_000) / 10_000, rel=0.01)
