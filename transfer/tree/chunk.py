"""Cutting files into chunks, and copying one file chunk by chunk.

Chunks have a fixed length: it is simple, and a database that writes its pages in place keeps every
other chunk. Content that moves inside a file (an insertion) makes what follows it new.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator

import xxhash

CHUNK_BYTES = 128 * 1024
DIGEST_BYTES = 16
FILE_BYTES_MAX = 1 << 40
"""A longer file is refused: its chunk list alone would take more than 128 MiB."""

PAGE_BYTES = 4096
FICLONE = 0x40049409

ZERO_CHUNK = bytes(CHUNK_BYTES)
_ZERO_PAGE = bytes(PAGE_BYTES)


def digest(data: bytes | bytearray | memoryview) -> bytes:
    """The xxh3-128 of the data."""
    return xxhash.xxh3_128_digest(data)


ZERO_DIGEST = digest(ZERO_CHUNK)
EMPTY_DIGEST = digest(b"")


def chunk_count(size: int) -> int:
    """How many chunks a file of this size has."""
    return -(-size // CHUNK_BYTES)


def chunk_bytes(size: int, index: int) -> int:
    """The length of the chunk at this index of a file of this size."""
    return min(CHUNK_BYTES, size - index * CHUNK_BYTES)


def content_digest(chunks: bytes) -> bytes:
    """A file's digest from its chunk digests: that of its only chunk, or that of their list."""
    return chunks if len(chunks) == DIGEST_BYTES else digest(chunks)


def chunk_at(chunks: bytes, index: int) -> bytes:
    """The digest at this index of a list."""
    return chunks[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES]


def data_bytes(size: int, chunks: bytes) -> int:
    """What a file's content takes: its size without the chunks that are all zeros."""
    if ZERO_DIGEST not in chunks:
        return size
    holes = sum(chunk_at(chunks, index) == ZERO_DIGEST for index in range(size // CHUNK_BYTES))
    return size - holes * CHUNK_BYTES


def is_zero(data: bytes) -> bool:
    """Whether the data is nothing but zeros."""
    return data is ZERO_CHUNK or data == ZERO_CHUNK[: len(data)]


def has_zero_page(data: bytes) -> bool:
    """Whether writing the data sparsely could leave out some of it."""
    return _ZERO_PAGE in data or is_zero(data)


def read_chunks(descriptor: int) -> Iterator[bytes]:
    """The chunks of a file up to the size it has now; holes are not read.

    It ends early where the file is cut meanwhile.
    """
    size = os.fstat(descriptor).st_size
    data_at = 0
    for offset in range(0, size, CHUNK_BYTES):
        wanted = min(CHUNK_BYTES, size - offset)
        if size > CHUNK_BYTES and offset >= data_at:
            data_at = _next_data(descriptor, offset, size)
        if offset + wanted <= data_at:
            yield ZERO_CHUNK[:wanted]
            continue
        data = pread_all(descriptor, wanted, offset)
        if data:
            yield data
        if len(data) < wanted:
            return


def _next_data(descriptor: int, offset: int, size: int) -> int:
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:  # nothing but a hole up to the end
            return size
        return offset  # the filesystem has no SEEK_DATA


def pread_all(descriptor: int, wanted: int, offset: int) -> bytes:
    """`wanted` bytes at `offset`; fewer only at the end of the file."""
    data = os.pread(descriptor, wanted, offset)
    while data and len(data) < wanted:
        more = os.pread(descriptor, wanted - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def pwrite_all(descriptor: int, data: bytes, offset: int) -> None:
    """Writes all of the data at `offset`."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def write_sparse(descriptor: int, data: bytes, offset: int) -> None:
    """Writes data into a hole of a file, leaving out its pages of zeros."""
    if is_zero(data):
        return
    if _ZERO_PAGE not in data:
        pwrite_all(descriptor, data, offset)
        return
    for at in range(0, len(data), PAGE_BYTES):
        page = data[at : at + PAGE_BYTES]
        if page != _ZERO_PAGE:
            pwrite_all(descriptor, page, offset + at)


def hash_file(descriptor: int) -> tuple[bytes, int]:
    """The chunk digests of a file, and how many bytes they cover."""
    digests = bytearray()
    size = 0
    for data in read_chunks(descriptor):
        digests += _digest_of_chunk(data)
        size += len(data)
    return bytes(digests), size


def copy_file(source: int, target: int) -> tuple[bytes, int]:
    """Copies a file's content into an empty file, holes as holes.

    Returns the chunk digests of what was written and its size.
    """
    digests = bytearray()
    size = 0
    for data in read_chunks(source):
        write_sparse(target, data, size)
        digests += _digest_of_chunk(data)
        size += len(data)
    os.ftruncate(target, size)
    return bytes(digests), size


def _digest_of_chunk(data: bytes) -> bytes:
    return ZERO_DIGEST if data is ZERO_CHUNK else digest(data)


def reflink(source: int, target: int) -> bool:
    """Makes an empty file share the other's blocks; False where the filesystem cannot."""
    try:
        fcntl.ioctl(target, FICLONE, source)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EIO}:
            raise
        return False
    return True
