"""Sans-IO framing: typed, numbered, checksummed pieces of a byte stream.

A frame is a header of 24 bytes and a payload:

    type      1 byte
    flags     1 byte
    reserved  2 bytes, zero
    length    4 bytes, of the payload
    sequence  8 bytes, from 0, one more for each frame of a direction
    digest    8 bytes, xxh3-64 of the 16 bytes above and the payload

All numbers are big-endian. Whatever is lost, doubled, moved or changed on the way makes the
reader raise StreamCorrupt; after that it is of no more use.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import STRICT, IntEnum, IntFlag

from xxhash import xxh3_64_intdigest

from transfer.errors import StreamCorrupt

PAYLOAD_BYTES_MAX = 1_310_720  # 1.25 MiB: a block of 1 MiB that compression made larger, and room

_FIELDS = struct.Struct(">BBHIQ")
_DIGEST = struct.Struct(">Q")
HEADER_BYTES = _FIELDS.size + _DIGEST.size


class FrameType(IntEnum):
    """What a payload is."""

    MESSAGE = 1  # one request or answer, JSON
    DATA = 2  # one block of the logical stream
    TRAILER = 3  # count, bytes and digest of the logical stream, which ends here
    ERROR = 4  # the other side failed: code, message, evidence
    ALIVE = 5  # nothing, but the other side is still at work


class Flag(IntFlag, boundary=STRICT):
    """How a payload is held."""

    NONE = 0
    ZSTD = 1


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame whose number and digest matched."""

    type: FrameType
    flags: Flag
    payload: bytes


class FrameWriter:
    """Numbers and signs the frames of one direction."""

    def __init__(self) -> None:
        self._sequence = 0

    def frame(self, kind: FrameType, payload: bytes = b"", flags: Flag = Flag.NONE) -> bytes:
        """The next frame, ready for the wire. Raises ValueError for too large a payload."""
        if len(payload) > PAYLOAD_BYTES_MAX:
            raise ValueError(f"a payload of {len(payload)} bytes is beyond {PAYLOAD_BYTES_MAX}")
        fields = _FIELDS.pack(kind, flags, 0, len(payload), self._sequence)
        self._sequence += 1
        return b"".join((fields, _DIGEST.pack(_digest(fields, payload)), payload))


class FrameReader:
    """Turns whatever pieces arrive into the frames that were written."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._sequence = 0

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are complete now. Raises StreamCorrupt."""
        self._buffer += data
        frames: list[Frame] = []
        while (frame := self._take()) is not None:
            frames.append(frame)
        return frames

    def finish(self) -> None:
        """The stream has ended. Raises StreamCorrupt where that cuts a frame."""
        if self._buffer:
            raise StreamCorrupt("the stream ends inside a frame", held_bytes=len(self._buffer))

    def _take(self) -> Frame | None:
        if len(self._buffer) < HEADER_BYTES:
            return None
        kind, flags, reserved, length, sequence = _FIELDS.unpack_from(self._buffer)
        # The length is judged first: it must not make us wait for bytes that never come.
        if length > PAYLOAD_BYTES_MAX or reserved:
            raise StreamCorrupt("a frame's header is damaged", sequence=self._sequence)
        end = HEADER_BYTES + length
        if len(self._buffer) < end:
            return None
        with memoryview(self._buffer) as view:
            fields = bytes(view[: _FIELDS.size])
            payload = bytes(view[HEADER_BYTES:end])
        (digest,) = _DIGEST.unpack_from(self._buffer, _FIELDS.size)
        if _digest(fields, payload) != digest:
            raise StreamCorrupt("a frame's digest does not match", sequence=self._sequence)
        if sequence != self._sequence:
            raise StreamCorrupt(
                "a frame was lost, doubled or moved", expected=self._sequence, arrived=sequence
            )
        del self._buffer[:end]
        self._sequence += 1
        try:
            return Frame(FrameType(kind), Flag(flags), payload)
        except ValueError as error:
            raise StreamCorrupt("a frame of unknown type", type=kind, flags=flags) from error


def _digest(fields: bytes, payload: bytes) -> int:
    # The header's digest seeds the payload's: one pass over each, and both are covered.
    return xxh3_64_intdigest(payload, seed=xxh3_64_intdigest(fields))
