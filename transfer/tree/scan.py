"""Walking a tree to its manifest.

The walk holds one descriptor a level and never follows a symlink. Sockets are left out; what
vanishes during the walk was never there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat as modes
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from transfer.errors import StorageError
from transfer.tree.chunk import DIGEST_BYTES, FILE_BYTES_MAX, content_digest, hash_file
from transfer.tree.descriptor import closing, open_directory, open_file
from transfer.tree.manifest import Manifest
from transfer.tree.node import (
    PATH_BYTES_MAX,
    Entry,
    Kind,
    Metadata,
    Node,
    encode,
    join,
    node_digest,
)

DEPTH_MAX = 300
"""Levels of directories: each holds up to two descriptors and a frame of the stack."""

READ_ATTEMPTS = 3
"""How often a file is read that changes while it is read."""

_KINDS = {
    modes.S_IFIFO: Kind.FIFO,
    modes.S_IFCHR: Kind.CHARACTER,
    modes.S_IFBLK: Kind.BLOCK,
}


@dataclass(frozen=True, slots=True)
class Known:
    """A file's content, known without reading it: its chunk digests, and the path in the base's
    tree of a file that is the same in every respect (None where metadata differ)."""

    chunks: bytes
    link: bytes | None = None


Knows = Callable[[bytes, os.stat_result], Known | None]


@dataclass(frozen=True, slots=True)
class Row:
    """A file whose content did not change while it was read."""

    device: int
    inode: int
    ctime_ns: int
    path: bytes


@dataclass(frozen=True, slots=True)
class Spot:
    """Where the walk stands: an entry `name` of the open directory `parent`."""

    parent: int
    name: bytes
    path: bytes
    stat: os.stat_result
    depth: int


def nothing_known(path: bytes, stat: os.stat_result) -> Known | None:
    """Every file is to be read."""
    return None


def metadata_of(stat: os.stat_result) -> Metadata:
    """The part of a stat that a manifest keeps."""
    return Metadata(modes.S_IMODE(stat.st_mode), stat.st_uid, stat.st_gid, stat.st_mtime_ns)


def row_of(path: bytes, stat: os.stat_result) -> Row:
    """The row of a file that was found like this."""
    return Row(stat.st_dev, stat.st_ino, stat.st_ctime_ns, path)


def same_state(before: os.stat_result, after: os.stat_result) -> bool:
    """Whether a file was left alone between the two."""
    return (before.st_ctime_ns, before.st_mtime_ns, before.st_size) == (
        after.st_ctime_ns,
        after.st_mtime_ns,
        after.st_size,
    )


class Vanished(Exception):
    """What was listed is gone, or has become something else; never leaves the walk."""


@contextlib.contextmanager
def _may_vanish() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL, errno.ENXIO}:
            raise Vanished from error
        raise


def open_spot(spot: Spot) -> int:
    """The file at this spot, for reading. Raises Vanished."""
    with _may_vanish():
        return open_file(spot.parent, spot.name)


class TreeScan:
    """One walk. `rows` are the files read or known; `inconsistent_files` counts those that were
    written all the time; `dropped` counts by kind what a manifest cannot have."""

    def __init__(self, knows: Knows = nothing_known) -> None:
        self.rows: list[Row] = []
        self.inconsistent_files = 0
        self.dropped: dict[str, int] = {}
        self._knows = knows
        self._nodes: dict[bytes, bytes] = {}
        self._chunks: dict[bytes, bytes] = {}
        self._leaders: dict[tuple[int, int], Entry] = {}

    def run(self, root: int) -> Manifest:
        """The manifest of the tree below the open directory. Raises OSError, StorageError."""
        self._directory(root, b"", 0)
        return Manifest(self._nodes, self._chunks)

    def _directory(self, directory: int, path: bytes, depth: int) -> bytes:
        # Its own metadata first: a name that comes later moves its time, and is seen next time.
        own = os.fstat(directory)
        entries: list[Entry] = []
        for name in sorted(map(os.fsencode, os.listdir(directory))):
            try:
                with _may_vanish():
                    stat = os.stat(name, dir_fd=directory, follow_symlinks=False)
                entry = self._entry(Spot(directory, name, join(path, name), stat, depth))
            except Vanished:
                continue
            if entry is not None:
                entries.append(entry)
        node = encode(Node(self._metadata(path, own), tuple(entries)))
        self._nodes[path] = node
        self._leave(directory, own)
        return node_digest(node)

    def _entry(self, spot: Spot) -> Entry | None:
        if len(spot.path) > PATH_BYTES_MAX or spot.depth >= DEPTH_MAX:
            raise StorageError(
                f"a tree is deeper than {DEPTH_MAX} directories or {PATH_BYTES_MAX} bytes of path"
            )
        mode = spot.stat.st_mode
        if modes.S_ISDIR(mode):
            with _may_vanish():
                child = open_directory(spot.parent, spot.name)
            with closing(child):
                self._enter(spot)
                return Entry(
                    spot.name, Kind.DIRECTORY, self._directory(child, spot.path, spot.depth + 1)
                )
        if modes.S_ISREG(mode):
            return self._file(spot)
        metadata = self._metadata(spot.path, spot.stat)
        if modes.S_ISLNK(mode):
            with _may_vanish():
                text = os.readlink(spot.name, dir_fd=spot.parent)
            entry = Entry(spot.name, Kind.SYMLINK, metadata=metadata, text=text)
        elif modes.S_ISSOCK(mode):
            self._drop("socket")
            return None
        else:
            kind = _KINDS[modes.S_IFMT(mode)]
            value = 0 if kind is Kind.FIFO else spot.stat.st_rdev
            entry = Entry(spot.name, kind, metadata=metadata, value=value)
        return entry if self._special(spot, entry) else None

    def _file(self, spot: Spot) -> Entry | None:
        key = (spot.stat.st_dev, spot.stat.st_ino)
        if spot.stat.st_nlink > 1 and key in self._leaders:
            leader = self._leaders[key]
            self._follow(spot, leader)
            return Entry(
                spot.name, Kind.FILE, leader.digest, leader.metadata, leader.value, leader.name
            )
        known = self._knows(spot.path, spot.stat)
        stat, chunks, size = self._content(spot, known)
        if len(chunks) > DIGEST_BYTES:
            self._chunks[spot.path] = chunks
        content = content_digest(chunks)
        metadata = self._metadata(spot.path, stat)
        if spot.stat.st_nlink > 1:
            # Kept under its path, which is what its other names will have as text.
            self._leaders[key] = Entry(spot.path, Kind.FILE, content, metadata, size)
        return Entry(spot.name, Kind.FILE, content, metadata, size)

    def _content(self, spot: Spot, known: Known | None) -> tuple[os.stat_result, bytes, int]:
        """The stat, the chunk digests and the size of the file, as one consistent state."""
        if known is not None:
            self._remember(spot.path, spot.stat)
            return spot.stat, known.chunks, spot.stat.st_size
        with closing(open_spot(spot)) as file:
            for _ in range(READ_ATTEMPTS):
                before = self._checked(file)
                chunks, size = hash_file(file)
                after = os.fstat(file)
                if same_state(before, after) and size == after.st_size:
                    self._remember(spot.path, after)
                    return after, chunks, size
        self.inconsistent_files += 1
        return before, chunks, size

    def _checked(self, file: int) -> os.stat_result:
        stat = os.fstat(file)
        if not modes.S_ISREG(stat.st_mode):
            raise Vanished  # replaced by something else: the file itself is gone
        if stat.st_size > FILE_BYTES_MAX:
            raise StorageError(f"a file is longer than {FILE_BYTES_MAX} bytes")
        return stat

    def _remember(self, path: bytes, stat: os.stat_result) -> None:
        self.rows.append(row_of(path, stat))

    def _drop(self, kind: str) -> None:
        self.dropped[kind] = self.dropped.get(kind, 0) + 1

    def _metadata(self, path: bytes, stat: os.stat_result) -> Metadata:
        """What the manifest says of an entry that was found like this."""
        return metadata_of(stat)

    def _enter(self, spot: Spot) -> None:
        """Before a directory's entries."""

    def _leave(self, directory: int, own: os.stat_result) -> None:
        """After a directory's entries."""

    def _special(self, spot: Spot, entry: Entry) -> bool:
        """A symlink, fifo or device; False leaves it out of the manifest."""
        return True

    def _follow(self, spot: Spot, leader: Entry) -> None:
        """One more name of a file seen before."""
