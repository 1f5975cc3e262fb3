"""Reading a tar archive that anybody may have made: from one end to the other, compressed or not.

What compresses it (gzip, zstd, xz) is told by its first bytes. The standard library reads the
headers, behind a reader that goes forward only and bounds what it is asked for: so no header
makes us keep much in memory or go round in a circle, and an archive is read only as far as there
is room for what it holds.
"""

from __future__ import annotations

import contextlib
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from typing import IO, Any, cast

import zstandard

from transfer.errors import ArchiveInvalid, InsufficientStorage
from transfer.tree.chunk import CHUNK_BYTES, FILE_BYTES_MAX

HEADER_BYTES_MAX = 1 << 20
"""Of all headers of one entry: its long names, and attributes of up to 64 KiB each."""

GLOBAL_FIELDS_MAX = 100
"""Fields of headers that stand for all entries that follow."""

Piece = tuple[int, bytes]
"""Data of a file, and where in the file that stands."""

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_XZ = b"\xfd7zXZ\x00"
_END = bytes(tarfile.BLOCKSIZE)

# What readers raise of bytes that are not what they should be: a RecursionError of headers that
# announce headers.
_MALFORMED = (
    tarfile.TarError,
    zstandard.ZstdError,
    lzma.LZMAError,
    zlib.error,
    gzip.BadGzipFile,
    EOFError,
    ValueError,
    ArithmeticError,
    LookupError,
    RecursionError,
)


class _Damaged(Exception):
    """What is wrong with the bytes; never leaves this module."""


class _Forward:
    """The archive's bytes, decompressed, once. `headers_end` is how far headers may go."""

    def __init__(self, file: IO[bytes], bytes_max: int) -> None:
        self._file = file
        self._bytes_max = bytes_max
        self._at = 0
        self.headers_end: int | None = None
        self.last = b""

    def tell(self) -> int:
        return self._at

    def seek(self, position: int) -> None:
        if position < self._at:
            raise _Damaged("its lengths do not add up")
        while self._at < position:
            if not self.read(min(position - self._at, CHUNK_BYTES)):
                raise _Damaged("the archive ends in the middle of it")

    def read(self, wanted: int) -> bytes:
        """So many bytes; fewer at the end alone. `last` are those of the last call."""
        if self.headers_end is not None and self._at + wanted > self.headers_end:
            raise _Damaged("its headers are too long")
        parts: list[bytes] = []
        left = wanted
        while left > 0 and (data := self._file.read(left)):
            parts.append(data)
            left -= len(data)
        self.last = b"".join(parts)
        self._at += len(self.last)
        self.require(0)
        return self.last

    def require(self, count: int) -> None:
        """That there is room for so many bytes more."""
        if self._at + count > self._bytes_max:
            raise InsufficientStorage(
                f"there is room for {self._bytes_max} bytes, and the archive holds more",
                available_bytes=self._bytes_max,
            )


class Archive:
    """An archive that is being read. Its methods raise ArchiveInvalid, which names the entry, and
    InsufficientStorage."""

    def __init__(self, path: str, file: IO[bytes], bytes_max: int) -> None:
        self.path = path
        self._forward = _Forward(file, bytes_max)

    def members(self) -> Iterator[tarfile.TarInfo]:
        """The entries, in their order. An archive is whole if it has the mark of its end, and if
        all that follows can be decompressed, up to the compression's own checksum."""
        last = ""
        with self._reading(""):
            self._forward.headers_end = HEADER_BYTES_MAX
            source: Any = tarfile.TarFile(  # typeshed does not know `members`
                fileobj=cast("IO[bytes]", self._forward),
                encoding="utf-8",
                errors="surrogateescape",
            )
        while True:
            with self._reading(f"after {last}" if last else ""):
                self._forward.headers_end = self._forward.tell() + HEADER_BYTES_MAX
                member = source.next()
                source.members.clear()  # it would keep them all
                self._forward.headers_end = None
                if len(source.pax_headers) > GLOBAL_FIELDS_MAX:
                    raise _Damaged("it has too many global headers")
                if member is None:
                    self._check_end(last)
                    return
            last = member.name
            yield member

    def _check_end(self, last: str) -> None:
        """The standard library takes a header that it cannot read for the end."""
        if self._forward.last != _END:
            cut = len(self._forward.last) < len(_END)
            raise _Damaged("the archive ends too early" if cut else "a header is damaged")
        if not last:
            raise _Damaged("the archive is empty")
        while self._forward.read(CHUNK_BYTES):
            pass

    def content(self, member: tarfile.TarInfo) -> Iterator[Piece]:
        """The data of a file, without its holes."""
        with self._reading(member.name):
            pieces = _pieces(member)
            self._forward.seek(member.offset_data)
            self._forward.require(sum(size for _, size in pieces))
        for offset, size in pieces:
            at, end = offset, offset + size
            while at < end:
                with self._reading(member.name):
                    data = self._forward.read(min(end - at, CHUNK_BYTES))
                    if not data:
                        raise _Damaged("the archive ends in the middle of it")
                yield at, data
                at += len(data)

    def refuse(self, name: str, why: str) -> ArchiveInvalid:
        """The error of an entry that cannot be taken."""
        entry = shown(name)
        where = f"{self.path}: {entry}" if entry else self.path
        return ArchiveInvalid(f"{where}: {why}", path=self.path, entry=entry)

    @contextlib.contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        try:
            yield
        except _Damaged as error:
            raise self.refuse(name, str(error)) from error
        except _MALFORMED as error:
            raise self.refuse(name, f"cannot be read: {error}") from error


@contextlib.contextmanager
def open_archive(path: str, bytes_max: int) -> Iterator[Archive]:
    """The archive at `path`, of which no more than `bytes_max` are read, counted as they are when
    they are decompressed. Raises OSError."""
    with open(path, "rb") as file, _decompressed(file) as plain:
        yield Archive(path, plain, bytes_max)


def _decompressed(file: IO[bytes]) -> contextlib.AbstractContextManager[IO[bytes]]:
    magic = file.read(len(_XZ))
    file.seek(0)
    if magic.startswith(_GZIP):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=file))
    if magic.startswith(_ZSTD):
        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        return cast("IO[bytes]", reader)
    if magic == _XZ:
        return cast("IO[bytes]", lzma.LZMAFile(file))
    return contextlib.nullcontext(file)


def _pieces(member: tarfile.TarInfo) -> list[tuple[int, int]]:
    """Where a file's data stands in it, by offset and size: all of it, unless it is sparse."""
    if not 0 <= member.size <= FILE_BYTES_MAX:
        raise _Damaged(f"its size is not within 0 and {FILE_BYTES_MAX} bytes")
    given = cast("list[tuple[int, int]] | None", member.sparse)
    if given is None:
        return [(0, member.size)]
    pieces = [piece for piece in given if piece[1] != 0]
    at = 0
    for offset, size in pieces:
        if offset < at or size < 0 or offset + size > member.size:
            raise _Damaged("its holes do not add up")
        at = offset + size
    return pieces


def shown(name: str) -> str:
    """A name for people: it may be anything, and is never to move a terminal's cursor."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)
