"""Which live inode held which content, so that an unchanged file need not be read again.

A row says: the inode, as long as its ctime is this, has the content of the file `path` of the
manifest that the index belongs to. A row is only made for a file whose ctime lies before a probe
that was touched, on the same filesystem, before the file was read: whatever is written after the
probe gets a ctime that is not older than the probe's, so no write can hide behind an equal ctime,
however coarse the filesystem's clock is. (git calls the files left out "racily clean".)

As a file: magic:8 device:8 guid_length:2 guid rows:4, then inode:8 ctime_ns:8 path_length:2 path,
then the xxh3-128 of all that.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from transfer.tree.chunk import DIGEST_BYTES, digest
from transfer.tree.descriptor import closing, sync_filesystem
from transfer.tree.manifest import Manifest
from transfer.tree.node import Kind
from transfer.tree.scan import Known, Row, metadata_of

_MAGIC = b"HOODYIX1"
_HEAD = struct.Struct(">8sQHI")
_ROW = struct.Struct(">QqH")


@dataclass(frozen=True, slots=True)
class Index:
    """`guid` names the snapshot whose manifest the paths are in ("" where it is none);
    `rows` maps an inode to its ctime and its path there."""

    guid: str
    device: int
    rows: dict[int, tuple[int, bytes]]

    def known(self, manifest: Manifest, path: bytes, stat: os.stat_result) -> Known | None:
        """What is known of a live file's content, by its inode."""
        row = self.rows.get(stat.st_ino)
        if row is None or stat.st_dev != self.device or stat.st_ctime_ns != row[0]:
            return None
        entry = manifest.entry(row[1])
        if entry is None or entry.kind is not Kind.FILE or entry.value != stat.st_size:
            return None
        same = entry.metadata == metadata_of(stat)
        return Known(manifest.chunk_list(row[1], entry), row[1] if same else None)


def build_index(guid: str, root: os.stat_result, probe_ns: int, rows: Iterable[Row]) -> Index:
    """An index of those rows that no later write can hide behind."""
    trusted = {
        row.inode: (row.ctime_ns, row.path)
        for row in rows
        if row.ctime_ns < probe_ns and row.device == root.st_dev
    }
    return Index(guid, root.st_dev, trusted)


def probe(path: str, *, in_use: bool) -> int:
    """The filesystem's own clock: the ctime in nanoseconds of a file touched now at `path`.

    Where the tree is `in_use`, all that was written before goes to the disk first: that takes
    write access from memory mappings, so that the next store through one moves the file's ctime
    too. A tree that nobody has been given yet has no mappings.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with closing(os.open(path, flags, 0o600)) as descriptor:
        os.utime(descriptor)
        touched_ns = os.fstat(descriptor).st_ctime_ns
        if in_use:
            sync_filesystem(descriptor)
    os.unlink(path)
    return touched_ns


def dump_index(index: Index) -> bytes:
    """The index as a file's content."""
    guid = index.guid.encode()
    parts = [_HEAD.pack(_MAGIC, index.device, len(guid), len(index.rows)), guid]
    for inode, (ctime_ns, path) in index.rows.items():
        parts += (_ROW.pack(inode, ctime_ns, len(path)), path)
    body = b"".join(parts)
    return body + digest(body)


def load_index(path: str) -> Index | None:
    """The index in this file; None where it is absent or damaged: then all is read again."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return None
    body = data[:-DIGEST_BYTES]
    if digest(body) != data[-DIGEST_BYTES:] or not body.startswith(_MAGIC):
        return None
    _, device, guid_length, count = _HEAD.unpack_from(body)
    at = _HEAD.size + guid_length
    guid = body[_HEAD.size : at].decode()
    rows: dict[int, tuple[int, bytes]] = {}
    for _ in range(count):
        inode, ctime_ns, length = _ROW.unpack_from(body, at)
        at += _ROW.size + length
        rows[inode] = (ctime_ns, body[at - length : at])
    return Index(guid, device, rows)
