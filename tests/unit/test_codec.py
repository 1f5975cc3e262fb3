"""Encoder and Decoder: the logical stream comes back whole, or StreamCorrupt."""

from __future__ import annotations

import random

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from transfer.codec import BLOCK_BYTES, Decoder, Encoder, level_of, unpack
from transfer.errors import StreamCorrupt
from transfer.frames import Flag, Frame, FrameReader, FrameType, FrameWriter

NOISE = random.Random(3).randbytes(BLOCK_BYTES)
BLOCKS = st.lists(st.binary(min_size=1, max_size=2000), max_size=6)
COMPRESSIONS = st.sampled_from(["auto", "none", "1", "19"])


def encoded(blocks: list[bytes], compression: str = "auto") -> list[Frame]:
    encoder = Encoder(FrameWriter(), compression)
    wire = [encoder.feed(block) for block in blocks] + [encoder.finish()]
    return FrameReader().feed(b"".join(wire))


def decoded(frames: list[Frame]) -> list[bytes]:
    decoder = Decoder()
    blocks = [decoder.feed(frame) for frame in frames]
    decoder.finish()
    return blocks[:-1]


@given(BLOCKS, COMPRESSIONS)
def test_what_goes_in_comes_out(blocks: list[bytes], compression: str) -> None:
    assert decoded(encoded(blocks, compression)) == blocks


@pytest.mark.parametrize("compression", ["auto", "none", "1", "19"])
@pytest.mark.parametrize("block", [bytes(BLOCK_BYTES), NOISE])
def test_the_largest_block_fits(block: bytes, compression: str) -> None:
    assert decoded(encoded([block], compression)) == [block]


def test_what_does_not_compress_is_held_as_it_is() -> None:
    first, second, _ = encoded([NOISE, bytes(5000)])
    assert first.flags == Flag.NONE and first.payload == NOISE
    assert second.flags == Flag.ZSTD and len(second.payload) < 100


def test_auto_stops_trying_on_noise_and_starts_again() -> None:
    encoder = Encoder(FrameWriter())
    tried = 0
    for _ in range(80):
        tried += encoder.will_compress
        encoder.feed(NOISE[:4096])
    assert 4 <= tried <= 16
    for _ in range(16):
        encoder.feed(bytes(4096))
    assert encoder.will_compress


def test_a_level_that_was_asked_for_is_always_tried() -> None:
    encoder = Encoder(FrameWriter(), "3")
    for _ in range(20):
        assert encoder.will_compress
        encoder.feed(NOISE[:4096])


@pytest.mark.parametrize("text", ["", "0", "20", "-1", "fast", "1.5", "²"])
def test_another_compression_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="compression is"):
        level_of(text)


@pytest.mark.parametrize("block", [b"", bytes(BLOCK_BYTES + 1)])
def test_blocks_have_their_limits(block: bytes) -> None:
    with pytest.raises(ValueError, match="a block has"):
        Encoder(FrameWriter()).feed(block)


@given(BLOCKS.filter(bool), st.data())
def test_a_stream_cut_before_its_trailer_is_corrupt(
    blocks: list[bytes], data: st.DataObject
) -> None:
    frames = encoded(blocks)
    with pytest.raises(StreamCorrupt, match="without its trailer"):
        decoded(frames[: data.draw(st.integers(0, len(blocks)))])


@given(st.lists(st.binary(min_size=1, max_size=50), min_size=2, max_size=5, unique=True))
def test_blocks_that_were_changed_before_framing_do_not_match_the_trailer(
    blocks: list[bytes],
) -> None:
    frames = encoded(blocks)
    swapped = [frames[1], frames[0], *frames[2:]]
    dropped = frames[1:]
    doubled = [frames[0], *frames]
    for wrong in (dropped, doubled, swapped):
        if b"".join(decoded_blocks(wrong)) == b"".join(blocks):
            continue  # b"a", b"aa" is the same stream either way round
        with pytest.raises(StreamCorrupt, match="not what its trailer says"):
            decoded(wrong)


def decoded_blocks(frames: list[Frame]) -> list[bytes]:
    return [unpack(frame.payload, frame.flags, BLOCK_BYTES) for frame in frames[:-1]]


def test_nothing_comes_after_the_trailer() -> None:
    frames = encoded([b"a"])
    with pytest.raises(StreamCorrupt, match="after the trailer"):
        decoded([*frames, frames[0]])


def test_another_kind_of_frame_is_no_data() -> None:
    with pytest.raises(StreamCorrupt, match="no data"):
        Decoder().feed(Frame(FrameType.MESSAGE, Flag.NONE, b"{}"))


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(64 << 20))
    assert len(bomb) < 10_000
    with pytest.raises(StreamCorrupt, match="wrong size"):
        Decoder().feed(Frame(FrameType.DATA, Flag.ZSTD, bomb))


def test_a_block_without_a_declared_size_is_refused() -> None:
    packed = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(100))
    with pytest.raises(StreamCorrupt, match="wrong size"):
        Decoder().feed(Frame(FrameType.DATA, Flag.ZSTD, packed))


def test_a_block_that_unpacks_to_more_than_it_declares_is_refused() -> None:
    small = zstandard.ZstdCompressor().compress(bytes(100))
    for payload in (small + small, small + b"rest", small[:-3], b"no zstd"):
        with pytest.raises(StreamCorrupt):
            Decoder().feed(Frame(FrameType.DATA, Flag.ZSTD, payload))
