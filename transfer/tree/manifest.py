"""The Merkle manifest of a tree: every directory's node, and the chunk lists of longer files.

As a file: magic:8 nodes:4 lists:4, then the nodes and the lists, each as path_length:2
data_length:4 path data, then the xxh3-128 of all that.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from transfer.errors import SnapshotMissing, StorageError, StreamCorrupt
from transfer.tree.chunk import DIGEST_BYTES, data_bytes, digest
from transfer.tree.node import Entry, Kind, Metadata, Node, join, node_digest, parse

_MAGIC = b"HOODYTR1"
_HEAD = struct.Struct(">8sII")
_ITEM = struct.Struct(">HI")


@dataclass(frozen=True, slots=True)
class Manifest:
    """`nodes` by the path of their directory; `chunks` by path for files of two or more chunks."""

    nodes: dict[bytes, bytes]
    chunks: dict[bytes, bytes]

    @property
    def root(self) -> bytes:
        """The digest that stands for the whole tree."""
        return node_digest(self.nodes[b""])

    def node(self, path: bytes) -> Node:
        """The directory at this path. Raises SnapshotMissing where there is none."""
        return parse(self._data(path))

    def entry(self, path: bytes) -> Entry | None:
        """The entry at this path (not the root's)."""
        parent, _, name = path.rpartition(b"/")
        data = self.nodes.get(parent)
        return None if data is None else _by_name(data).get(name)

    def metadata_at(self, path: bytes) -> Metadata | None:
        """The metadata of what is at this path, whatever its kind; None where nothing is."""
        if path in self.nodes:
            return self.node(path).metadata
        entry = self.entry(path)
        return None if entry is None else entry.metadata

    def chunk_list(self, path: bytes, entry: Entry) -> bytes:
        """The chunk digests of the file at this path."""
        listed = self.chunks.get(path)
        if listed is not None:
            return listed
        if entry.text:
            leader = self.entry(entry.text)
            return b"" if leader is None else self.chunk_list(entry.text, leader)
        return entry.digest if entry.value else b""

    def leaders(self) -> Iterator[tuple[bytes, Entry]]:
        """Every file that has content of its own, with its path, in the order of the walk."""
        for path, entry in self.walk():
            if entry.is_leader:
                yield path, entry

    def walk(self) -> Iterator[tuple[bytes, Entry]]:
        """Every entry below the root with its path; directories before what is in them."""
        waiting = [iter(self._children(b""))]
        while waiting:
            found = next(waiting[-1], None)
            if found is None:
                waiting.pop()
                continue
            yield found
            path, entry = found
            if entry.kind is Kind.DIRECTORY:
                waiting.append(iter(self._children(path)))

    @property
    def data_bytes(self) -> int:
        """What the files' content takes, holes left out."""
        return sum(
            data_bytes(entry.value, self.chunk_list(path, entry)) for path, entry in self.leaders()
        )

    def _children(self, path: bytes) -> list[tuple[bytes, Entry]]:
        return [(join(path, entry.name), entry) for entry in self.node(path).entries]

    def _data(self, path: bytes) -> bytes:
        try:
            return self.nodes[path]
        except KeyError:
            raise SnapshotMissing("the snapshot has no such directory") from None


@lru_cache(maxsize=64)
def _by_name(data: bytes) -> dict[bytes, Entry]:
    return {entry.name: entry for entry in parse(data).entries}


def dump(manifest: Manifest) -> bytes:
    """The manifest as a file's content."""
    parts = [_HEAD.pack(_MAGIC, len(manifest.nodes), len(manifest.chunks))]
    for table in (manifest.nodes, manifest.chunks):
        for path, data in table.items():
            parts += (_ITEM.pack(len(path), len(data)), path, data)
    body = b"".join(parts)
    return body + digest(body)


def load(data: bytes) -> Manifest:
    """The manifest that `dump` made. Raises StorageError where the file is damaged."""
    body = memoryview(data)[:-DIGEST_BYTES]
    if digest(body) != data[-DIGEST_BYTES:]:
        raise StorageError("a manifest on disk is damaged")
    magic, node_count, list_count = _HEAD.unpack_from(body)
    if magic != _MAGIC:
        raise StorageError("a manifest on disk has another form")
    at = _HEAD.size
    tables: list[dict[bytes, bytes]] = []
    for count in (node_count, list_count):
        table: dict[bytes, bytes] = {}
        for _ in range(count):
            path_length, data_length = _ITEM.unpack_from(body, at)
            at += _ITEM.size
            path = bytes(body[at : at + path_length])
            at += path_length
            table[path] = bytes(body[at : at + data_length])
            at += data_length
        tables.append(table)
    return Manifest(tables[0], tables[1])


def require_entry(manifest: Manifest, path: bytes) -> Entry:
    """The file at this path of a snapshot. Raises SnapshotMissing where there is none."""
    entry = manifest.entry(path)
    if entry is None or entry.kind is not Kind.FILE:
        raise SnapshotMissing("the snapshot has no such file")
    return entry


def require_leader(manifest: Manifest, path: bytes) -> Entry:
    """The file that a hard link names. Raises StreamCorrupt where it is none."""
    entry = manifest.entry(path)
    if entry is None or not entry.is_leader:
        raise StreamCorrupt("the manifest is malformed: a hard link names no file")
    return entry
