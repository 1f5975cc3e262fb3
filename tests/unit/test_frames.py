"""Frames: whatever the splits, the frames that were written come out, or StreamCorrupt."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfer.errors import StreamCorrupt
from transfer.frames import (
    HEADER_BYTES,
    PAYLOAD_BYTES_MAX,
    Flag,
    Frame,
    FrameReader,
    FrameType,
    FrameWriter,
)

FRAMES = st.lists(
    st.builds(
        Frame, st.sampled_from(FrameType), st.sampled_from(list(Flag)), st.binary(max_size=300)
    ),
    min_size=1,
    max_size=8,
)


def written(frames: list[Frame]) -> list[bytes]:
    writer = FrameWriter()
    return [writer.frame(frame.type, frame.payload, frame.flags) for frame in frames]


def read(wire: bytes) -> list[Frame]:
    reader = FrameReader()
    frames = reader.feed(wire)
    reader.finish()
    return frames


@given(FRAMES, st.lists(st.integers(0, 3000), max_size=12))
def test_any_split_gives_the_same_frames(frames: list[Frame], cuts: list[int]) -> None:
    wire = b"".join(written(frames))
    reader = FrameReader()
    found: list[Frame] = []
    edges = [0, *sorted(cut % (len(wire) + 1) for cut in cuts), len(wire)]
    for start, end in pairwise(edges):
        found += reader.feed(wire[start:end])
    reader.finish()
    assert found == frames


@given(FRAMES, st.data())
def test_a_flipped_bit_anywhere_is_found(frames: list[Frame], data: st.DataObject) -> None:
    wire = bytearray(b"".join(written(frames)))
    at = data.draw(st.integers(0, len(wire) * 8 - 1))
    wire[at // 8] ^= 1 << at % 8
    with pytest.raises(StreamCorrupt):
        read(bytes(wire))


@given(FRAMES, st.data())
def test_a_cut_inside_a_frame_is_found(frames: list[Frame], data: st.DataObject) -> None:
    pieces = written(frames)
    at = data.draw(st.integers(1, len(pieces[-1]) - 1))
    with pytest.raises(StreamCorrupt):
        read(b"".join(pieces)[:-at])


@given(FRAMES.filter(lambda frames: len(frames) > 1), st.data())
def test_frames_dropped_doubled_or_moved_are_found(
    frames: list[Frame], data: st.DataObject
) -> None:
    pieces = written(frames)
    at = data.draw(st.integers(0, len(pieces) - 2))
    dropped = pieces[:at] + pieces[at + 1 :]
    doubled = pieces[: at + 1] + pieces[at:]
    moved = [*pieces[:at], pieces[at + 1], pieces[at], *pieces[at + 2 :]]
    for wrong in (dropped, doubled, moved):
        with pytest.raises(StreamCorrupt, match="lost, doubled or moved"):
            read(b"".join(wrong))


def test_a_length_beyond_the_limit_is_refused_before_the_payload_comes() -> None:
    header = bytearray(FrameWriter().frame(FrameType.DATA)[:HEADER_BYTES])
    header[4:8] = (PAYLOAD_BYTES_MAX + 1).to_bytes(4, "big")
    with pytest.raises(StreamCorrupt, match="header"):
        FrameReader().feed(bytes(header))


def test_a_payload_beyond_the_limit_is_not_written() -> None:
    with pytest.raises(ValueError, match="beyond"):
        FrameWriter().frame(FrameType.DATA, bytes(PAYLOAD_BYTES_MAX + 1))


@pytest.mark.parametrize(("kind", "flags"), [(9, 0), (0, 0), (2, 64)])
def test_an_unknown_type_or_flag_is_refused(kind: int, flags: int) -> None:
    # The writer does not judge its caller: so an honest frame of a later version is made.
    wire = FrameWriter().frame(kind, b"x", flags)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(StreamCorrupt):
        read(wire)
