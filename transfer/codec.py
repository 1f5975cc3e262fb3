"""The stages between a logical stream and its frames: zstd, and the digest of the whole.

Both are plain objects with feed and finish, which do CPU work only: tenths of a millisecond for
the digests of a block, milliseconds for its compression. They are to be called one at a time,
from any thread.
"""

from __future__ import annotations

import struct
import time

import zstandard
from xxhash import xxh3_128

from transfer.effort import LEVEL_MIN, Effort
from transfer.errors import StreamCorrupt
from transfer.frames import Flag, Frame, FrameType, FrameWriter

BLOCK_BYTES = 1 << 20  # of the logical stream, in one DATA frame at most

_LEVELS = range(1, 20)
_TRAILER = struct.Struct(">QQ16s")
_MISSES_MAX = 4  # so many blocks in a row did not compress: the data is taken for incompressible
_PROBE_EVERY = 8  # of the blocks that are to go as they are, each eighth is tried


def level_of(compression: str) -> int | None:
    """The zstd level of `1`..`19`; None for `none`, and for `auto`, which has no fixed one. Raises
    ValueError for another text."""
    if compression in ("auto", "none"):
        return None
    if compression.isdecimal() and int(compression) in _LEVELS:
        return int(compression)
    raise ValueError(f"compression is auto, none or 1..19, not {compression!r}")


def pack(block: bytes, compressor: zstandard.ZstdCompressor) -> tuple[bytes, Flag]:
    """The block compressed, or as it is where that saves less than a thirty-second."""
    packed = compressor.compress(block)
    if len(packed) < len(block) - len(block) // 32:
        return packed, Flag.ZSTD
    return block, Flag.NONE


def unpack(payload: bytes, flags: Flag, bytes_max: int) -> bytes:
    """What `pack` was given; no more than `bytes_max`. Raises StreamCorrupt."""
    if Flag.ZSTD not in flags:
        if len(payload) > bytes_max:
            raise StreamCorrupt("a block is too large", bytes=len(payload))
        return payload
    try:
        # The library allocates what the frame declares, so that is judged first.
        declared = zstandard.frame_content_size(payload)
        if not 0 < declared <= bytes_max:
            raise StreamCorrupt("a compressed block declares a wrong size", bytes=declared)
        return zstandard.ZstdDecompressor().decompress(payload, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise StreamCorrupt(f"a compressed block is damaged: {error}") from error


class Encoder:
    """Turns a logical stream into DATA frames and a trailer."""

    def __init__(self, writer: FrameWriter, compression: str = "auto") -> None:
        self._writer = writer
        self._effort = Effort() if compression == "auto" else None
        self._level = self._effort.level if self._effort else level_of(compression)
        self._compressor = _compressor(self._level)
        self._misses = 0
        self._count = 0
        self._bytes = 0
        self._whole = xxh3_128()

    def feed(self, block: bytes) -> bytes:
        """The frame of one block of 1 to BLOCK_BYTES bytes."""
        if not 0 < len(block) <= BLOCK_BYTES:
            raise ValueError(f"a block has 1 to {BLOCK_BYTES} bytes, not {len(block)}")
        payload, flags = block, Flag.NONE
        if self._compressor is not None and self.will_compress:
            payload, flags = self._pack(block, self._compressor)
        self._whole.update(block)
        self._count += 1
        self._bytes += len(block)
        return self._writer.frame(FrameType.DATA, payload, flags)

    def sent(self, seconds: float, wire_seconds: float) -> None:
        """A frame left so long after the one before, and for so long of it the wire was at work:
        what `auto` goes by. May be called while `feed` runs in a thread: `auto` then misjudges a
        block at most, and the compressor that runs stays."""
        if self._effort is None or self._misses:
            return
        self._effort.sent(seconds, wire_seconds)
        if self._effort.level != self._level:
            self._level = self._effort.level
            self._compressor = _compressor(max(self._level, LEVEL_MIN))

    def finish(self) -> bytes:
        """The trailer."""
        payload = _TRAILER.pack(self._count, self._bytes, self._whole.digest())
        return self._writer.frame(FrameType.TRAILER, payload)

    @property
    def will_compress(self) -> bool:
        """Whether the next block costs milliseconds, and so belongs in a thread."""
        if self._compressor is None:
            return False
        if self._effort is None or self._count % _PROBE_EVERY == 0:
            return True
        return self._effort.level >= LEVEL_MIN and self._misses < _MISSES_MAX

    def _pack(self, block: bytes, compressor: zstandard.ZstdCompressor) -> tuple[bytes, Flag]:
        began, began_cpu = time.perf_counter(), time.thread_time()
        payload, flags = pack(block, compressor)
        if self._effort is not None:
            self._misses = 0 if flags else self._misses + 1
            if flags:
                cpu_seconds, share = time.thread_time() - began_cpu, len(payload) / len(block)
                self._effort.compressed(time.perf_counter() - began, cpu_seconds, share)
        return payload, flags


def _compressor(level: int | None) -> zstandard.ZstdCompressor | None:
    return None if level is None else zstandard.ZstdCompressor(level=level)


class Decoder:
    """Turns DATA frames back into the logical stream and holds the trailer against it."""

    def __init__(self) -> None:
        self._count = 0
        self._bytes = 0
        self._whole = xxh3_128()
        self._ended = False

    def feed(self, frame: Frame) -> bytes:
        """The frame's block; empty for the trailer. Raises StreamCorrupt."""
        if self._ended:
            raise StreamCorrupt("a frame after the trailer", type=frame.type.name)
        if frame.type is FrameType.TRAILER:
            self._check(frame.payload)
            self._ended = True
            return b""
        if frame.type is not FrameType.DATA:
            raise StreamCorrupt("a frame that is no data", type=frame.type.name)
        block = unpack(frame.payload, frame.flags, BLOCK_BYTES)
        self._whole.update(block)
        self._count += 1
        self._bytes += len(block)
        return block

    def finish(self) -> None:
        """The frames have ended. Raises StreamCorrupt where the trailer has not come."""
        if not self._ended:
            raise StreamCorrupt("the stream ends without its trailer", blocks=self._count)

    @property
    def ended(self) -> bool:
        """Whether the trailer has come, and matched."""
        return self._ended

    def _check(self, payload: bytes) -> None:
        arrived = _TRAILER.pack(self._count, self._bytes, self._whole.digest())
        if payload != arrived:
            raise StreamCorrupt(
                "the stream is not what its trailer says", blocks=self._count, bytes=self._bytes
            )
