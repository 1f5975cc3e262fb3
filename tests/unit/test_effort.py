"""How hard zstd tries follows what blocks take: to compress, and to send."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from itertools import cycle, islice
from pathlib import Path

import pytest

from transfer import pipeline
from transfer.codec import BLOCK_BYTES, Encoder
from transfer.effort import LEVEL_MAX, LEVEL_MIN, LEVEL_NONE, Effort
from transfer.frames import Flag, FrameReader, FrameWriter
from transfer.pipeline import Outlet, TokenBucket, send_blocks

STREAM_BLOCKS = 64


def after(
    effort: Effort, blocks: int, seconds: float, wire_seconds: float, on_core: float = 1.0
) -> int:
    """The level when so many blocks have taken so long to compress, and the wire so long to carry;
    they left as soon as the slower of the two was done."""
    for _ in range(blocks):
        effort.compressed(seconds, seconds * on_core, 0.5)
        effort.sent(max(seconds, wire_seconds), wire_seconds)
    return effort.level


def test_a_slow_wire_makes_it_try_harder_up_to_a_limit() -> None:
    effort = Effort()
    assert after(effort, 16, 0.003, 0.2) == LEVEL_MIN + 2
    assert after(effort, 400, 0.003, 0.2) == LEVEL_MAX


def test_a_fast_wire_makes_it_try_less_down_to_a_limit() -> None:
    effort = Effort()
    top = after(effort, 400, 0.003, 0.2)
    assert after(effort, 16, 0.1, 0.04) == top - 2
    assert after(effort, 400, 0.003, 0.001) == LEVEL_MIN


def test_zstd_does_not_come_to_hold_the_stream_back() -> None:
    effort = Effort()
    top = after(effort, 400, 0.003, 0.2)
    assert after(effort, 16, 0.09, 0.1) == top - 2


def test_where_the_wire_has_room_it_does_not_try_harder() -> None:
    effort = Effort()
    for _ in range(400):
        effort.compressed(0.003, 0.003, 0.5)
        effort.sent(0.2, 0.09)  # whatever it is that is slow
    assert effort.level == LEVEL_MIN


def crowded(effort: Effort, share: float, on_core: float = 0.5) -> int:
    """The level when blocks that shrink to this share have left fast, for a while."""
    for _ in range(40):
        effort.compressed(0.003, 0.003 * on_core, share)
        effort.sent(0.01, 0.002)
    return effort.level


def test_where_others_want_the_core_and_the_wire_has_room_blocks_go_as_they_are() -> None:
    effort = Effort()
    assert crowded(effort, 0.5) == LEVEL_NONE
    assert crowded(effort, 0.5, on_core=1.0) == LEVEL_MIN


def test_what_shrinks_much_is_compressed_all_the_same() -> None:
    assert crowded(Effort(), 0.3) == LEVEL_MIN


def test_a_wire_that_becomes_slow_has_it_try_again() -> None:
    effort = Effort()
    crowded(effort, 0.5)
    assert after(effort, 8, 0.003, 0.2, on_core=0.5) == LEVEL_MIN


def test_between_the_two_it_stays() -> None:
    effort = Effort()
    level = after(effort, 24, 0.003, 0.2)
    assert after(effort, 100, 0.06, 0.1) == level


def test_one_block_that_takes_long_changes_nothing() -> None:
    effort = Effort()
    level = after(effort, 24, 0.003, 0.2)
    assert after(effort, 1, 0.1, 0.2) == level
    assert after(effort, 7, 0.003, 0.2) == level + 1


def test_where_others_want_the_core_it_does_not_try_harder() -> None:
    assert after(Effort(), 400, 0.003, 0.2, on_core=0.5) == LEVEL_MIN


class Clock:
    """Stands where nobody but the test moves it: nothing takes time but sending."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        for name in ("perf_counter", "thread_time"):
            monkeypatch.setattr(time, name, lambda: self.now)


def real() -> list[bytes]:
    """Blocks that a higher level does better with: Python's own library, again and again."""
    sources = sorted(Path(os.__file__).parent.glob("*.py"))
    whole = b"".join(source.read_bytes() for source in sources)
    starts = range(0, len(whole) - BLOCK_BYTES, BLOCK_BYTES)
    return [whole[at : at + BLOCK_BYTES] for at in islice(cycle(starts), STREAM_BLOCKS)]


async def sent(
    clock: Clock,
    compression: str,
    block_seconds: float,
    wire_share: float | None = None,
    limits: tuple[TokenBucket, ...] = (),
) -> list[int]:
    """The sizes of the frames of a stream whose blocks take so long to send, the wire so much of
    it, where that is known."""
    sizes = []

    async def sink(piece: bytes | memoryview) -> None:
        sizes.append(len(piece))
        clock.now += block_seconds

    async def blocks() -> AsyncIterator[bytes]:
        for block in content:
            yield block

    def wire() -> float | None:
        return None if wire_share is None else clock.now * wire_share

    content = real()
    await send_blocks(
        blocks(), Encoder(FrameWriter(), compression), Outlet(sink, limits, wire=wire)
    )
    return sizes[:-1]


async def test_a_stream_on_a_slow_wire_gets_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "PIECE_BYTES", 2 * BLOCK_BYTES)  # a frame is one piece
    clock = Clock(monkeypatch)
    fast = await sent(clock, "auto", 0.0)
    for slow in (await sent(clock, "auto", 1.0), await sent(clock, "auto", 1.0, 0.9)):
        assert slow[:8] == fast[:8]
        assert sum(slow[-8:]) < 0.97 * sum(fast[-8:])


async def test_a_slow_taker_on_a_fast_wire_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "PIECE_BYTES", 2 * BLOCK_BYTES)
    clock = Clock(monkeypatch)
    assert await sent(clock, "auto", 1.0, 0.1) == await sent(clock, "auto", 0.0)


async def test_a_limit_is_a_slow_wire(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "PIECE_BYTES", 2 * BLOCK_BYTES)
    clock = Clock(monkeypatch)
    free = await sent(clock, "auto", 0.0)

    async def sleep(seconds: float) -> None:
        clock.now += seconds

    monkeypatch.setattr(pipeline.asyncio, "sleep", sleep)
    limit = TokenBucket(1_000_000, lambda: clock.now)
    limited = await sent(clock, "auto", 0.0, 0.0, (limit,))
    assert sum(limited[-8:]) < 0.97 * sum(free[-8:])


def test_of_blocks_that_go_as_they_are_some_are_tried() -> None:
    encoder, reader = Encoder(FrameWriter()), FrameReader()
    encoder._effort = Effort()  # one that has found the cores wanted
    crowded(encoder._effort, 0.5)
    encoder.sent(0.01, 0.002)
    frames = reader.feed(b"".join(encoder.feed(block) for block in real()[:16]))
    assert [frame.flags for frame in frames] == ([Flag.ZSTD] + 7 * [Flag.NONE]) * 2


async def test_a_level_that_was_asked_for_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "PIECE_BYTES", 2 * BLOCK_BYTES)
    clock = Clock(monkeypatch)
    assert await sent(clock, "1", 1.0) == await sent(clock, "1", 0.0)
