"""Many byte strings in one logical stream, so that small ones compress well together.

Each record is its length in 4 big-endian bytes, then its bytes.
"""

from __future__ import annotations

import struct

from transfer.errors import StreamCorrupt

RECORD_BYTES_MAX = 128 << 20  # the chunk list of a file of 1 TiB

_LENGTH = struct.Struct(">I")


def as_record(content: bytes) -> bytes:
    """One record. Raises ValueError beyond RECORD_BYTES_MAX."""
    if len(content) > RECORD_BYTES_MAX:
        raise ValueError(f"a record of {len(content)} bytes is beyond {RECORD_BYTES_MAX}")
    return _LENGTH.pack(len(content)) + content


class RecordReader:
    """The inverse: pieces of the stream in, records out."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The records that are complete now. Raises StreamCorrupt."""
        self._buffer += data
        found: list[bytes] = []
        at = 0
        with memoryview(self._buffer) as view:
            while len(view) - at >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(view, at)
                if length > RECORD_BYTES_MAX:
                    raise StreamCorrupt("a record is too large", bytes=length)
                end = at + _LENGTH.size + length
                if end > len(view):
                    break
                found.append(bytes(view[at + _LENGTH.size : end]))
                at = end
        del self._buffer[:at]
        return found

    def finish(self) -> None:
        """The stream has ended. Raises StreamCorrupt where that cuts a record."""
        if self._buffer:
            raise StreamCorrupt("the stream ends inside a record", held_bytes=len(self._buffer))
