"""One directory of a manifest, as bytes.

A node is the directory's own metadata and its entries, sorted by name. An entry of a child
directory is its name and the digest of its node, so a digest stands for everything below it, and
the root's for the whole tree. All integers are big-endian.

    node       version:1 mode:2 uid:4 gid:4 mtime_s:8 mtime_ns:4 entries:4, then the entries
    directory  kind:1 name_length:1 digest:16 name
    other      kind:1 name_length:1 mode:2 uid:4 gid:4 mtime_s:8 mtime_ns:4 value:8 digest:16
               text_length:2 name text

`value` is a file's size or a device's number. `text` is a symlink's target, or, for a file that
is a hard link, the path of its *leader*: the first of its names in the order of the walk
(directories entered where their name stands). The leader itself has no text.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from transfer.errors import StreamCorrupt
from transfer.tree.chunk import DIGEST_BYTES, EMPTY_DIGEST, FILE_BYTES_MAX, digest

VERSION = 1
NODE_BYTES_MAX = 64 * 1024 * 1024
PATH_BYTES_MAX = 4095
NO_DIGEST = bytes(DIGEST_BYTES)

_NODE = struct.Struct(">BHIIqII")
_CHILD = struct.Struct(">BB16s")
_OTHER = struct.Struct(">BBHIIqIQ16sH")
_NS = 1_000_000_000


class Kind(IntEnum):
    """What an entry is."""

    DIRECTORY = 1
    FILE = 2
    SYMLINK = 3
    FIFO = 4
    CHARACTER = 5
    BLOCK = 6


_KINDS = {kind.value: kind for kind in Kind}


@dataclass(frozen=True, slots=True)
class Metadata:
    """Permission bits (12), owner, and time of last change of content in nanoseconds."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One name of a directory. A directory's metadata is in its own node, so None here."""

    name: bytes
    kind: Kind
    digest: bytes = NO_DIGEST
    metadata: Metadata | None = None
    value: int = 0
    text: bytes = b""

    @property
    def is_leader(self) -> bool:
        """Whether it is a file with content of its own, not one more name of another."""
        return self.kind is Kind.FILE and not self.text


@dataclass(frozen=True, slots=True)
class Node:
    """A directory."""

    metadata: Metadata
    entries: tuple[Entry, ...]


def encode(node: Node) -> bytes:
    """The node as bytes; its digest identifies it."""
    own = node.metadata
    seconds, nanoseconds = divmod(own.mtime_ns, _NS)
    parts = [
        _NODE.pack(VERSION, own.mode, own.uid, own.gid, seconds, nanoseconds, len(node.entries))
    ]
    for entry in node.entries:
        if entry.metadata is None:
            parts += (_CHILD.pack(entry.kind, len(entry.name), entry.digest), entry.name)
            continue
        meta = entry.metadata
        seconds, nanoseconds = divmod(meta.mtime_ns, _NS)
        fixed = _OTHER.pack(
            entry.kind,
            len(entry.name),
            meta.mode,
            meta.uid,
            meta.gid,
            seconds,
            nanoseconds,
            entry.value,
            entry.digest,
            len(entry.text),
        )
        parts += (fixed, entry.name, entry.text)
    return b"".join(parts)


def decode(data: bytes) -> Node:
    """The node, every field checked: it may come from another server. Raises StreamCorrupt."""
    if len(data) > NODE_BYTES_MAX:
        raise _bad("a node is too long")
    try:
        node = parse(data)
        # What is cut, goes on, or has a field out of range comes out as other bytes.
        has_our_form = encode(node) == data
    except (struct.error, KeyError, IndexError) as error:
        raise _bad("a node does not parse") from error
    if not has_our_form:
        raise _bad("a node has another form")
    _check_metadata(node.metadata)
    last = b""
    for entry in node.entries:
        if check_name(entry.name) <= last:
            raise _bad("names are not sorted")
        last = entry.name
        if entry.metadata is not None:
            _check_metadata(entry.metadata)
            _check(entry)
    return node


def parse(data: bytes) -> Node:
    """The node, of bytes that `encode` made or `decode` took: unchecked, for a manifest's nodes
    are read again and again."""
    _, mode, uid, gid, seconds, nanoseconds, count = _NODE.unpack_from(data)
    entries: list[Entry] = []
    at = _NODE.size
    for _ in range(count):
        entry, at = _entry(data, at)
        entries.append(entry)
    return Node(Metadata(mode, uid, gid, seconds * _NS + nanoseconds), tuple(entries))


def _entry(data: bytes, at: int) -> tuple[Entry, int]:
    kind = _KINDS[data[at]]
    if kind is Kind.DIRECTORY:
        _, name_length, content = _CHILD.unpack_from(data, at)
        at += _CHILD.size
        end = at + name_length
        return Entry(data[at:end], kind, content), end
    (_, name_length, mode, uid, gid, seconds, nanoseconds, value, content, text_length) = (
        _OTHER.unpack_from(data, at)
    )
    at += _OTHER.size
    text_at = at + name_length
    end = text_at + text_length
    metadata = Metadata(mode, uid, gid, seconds * _NS + nanoseconds)
    return Entry(data[at:text_at], kind, content, metadata, value, data[text_at:end]), end


def _check_metadata(metadata: Metadata) -> None:
    if metadata.mode > 0o7777:
        raise _bad("metadata is out of range")


def _check(entry: Entry) -> None:
    if entry.kind is Kind.FILE:
        if entry.value > FILE_BYTES_MAX or (entry.value == 0) != (entry.digest == EMPTY_DIGEST):
            raise _bad("a file's size is wrong")
        if entry.text:
            check_path(entry.text)
        return
    if entry.digest != NO_DIGEST:
        raise _bad("a digest where there is no content")
    is_device = entry.kind in {Kind.CHARACTER, Kind.BLOCK}
    if entry.value and not is_device:
        raise _bad("a value where there is none")
    is_symlink = entry.kind is Kind.SYMLINK
    if is_symlink != bool(entry.text) or b"\0" in entry.text or len(entry.text) > PATH_BYTES_MAX:
        raise _bad("a symlink's target is wrong")


def check_name(name: bytes) -> bytes:
    """The name, where it names one entry of a directory. Raises StreamCorrupt."""
    if name in {b"", b".", b".."} or len(name) > 255 or b"/" in name or b"\0" in name:
        raise _bad("a name is not a name")
    return name


def check_path(path: bytes) -> bytes:
    """The path, where it is relative and stays below its root. Raises StreamCorrupt."""
    if len(path) > PATH_BYTES_MAX:
        raise _bad("a path is too long")
    for name in path.split(b"/"):
        check_name(name)
    return path


def join(path: bytes, name: bytes) -> bytes:
    """The path of an entry of the directory `path` (`b""` is the root)."""
    return path + b"/" + name if path else name


def node_digest(data: bytes) -> bytes:
    """The digest of an encoded node."""
    return digest(data)


def _bad(why: str) -> StreamCorrupt:
    return StreamCorrupt(f"the manifest is malformed: {why}")
