"""What is known of a live tree's state on a dir storage, and whether it is still in it. Everything
here blocks.

Three states may be known. That of the newest snapshot has its manifest there and its index beside
the live tree; `settled.*` is the state right after the switch; `looked.*` is what a look has seen
since the newest snapshot, and goes when the next one is taken.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

from transfer.model import Guid
from transfer.storage.directory_basis import Basis, open_basis
from transfer.storage.directory_layout import Layout
from transfer.tree.descriptor import closing, open_root, replace_file, sync_filesystem
from transfer.tree.index import Index, build_index, dump_index, load_index, probe
from transfer.tree.manifest import Manifest, dump, load
from transfer.tree.node import Kind
from transfer.tree.scan import Known, Knows, Row, TreeScan, metadata_of, nothing_known

SETTLED, LOOKED = "settled", "looked"


@dataclass(frozen=True, slots=True)
class _State:
    """A tree as it was, and by which inodes its unchanged files are known."""

    index: Index
    manifest: Manifest

    def known(self, path: bytes, stat: os.stat_result) -> Known | None:
        """What is known of a live file's content."""
        return self.index.known(self.manifest, path, stat)


def settle(layout: Layout, path: str) -> None:
    """Brings the live tree to the disk and remembers it as the state `written` compares with.

    It is a new generation's, which nobody has been given yet.
    """
    directory = layout.existing(path)
    probe_ns = probe(os.path.join(directory, ".probe"), in_use=False)
    with (
        closing(open_root(os.path.join(directory, "live"))) as live,
        open_basis(layout, directory) as basis,
    ):
        _remember(directory, SETTLED, live, probe_ns, knows(basis))
        sync_filesystem(live)


def written(layout: Layout, path: str) -> bool:
    """Whether the live tree differs from the settled state; True where none is known."""
    directory = layout.existing(path)
    settled = _state(directory, SETTLED)
    if settled is None:
        return True
    with closing(open_root(os.path.join(directory, "live"))) as live:
        return unchanged_rows(live, settled.index, settled.manifest) is None


def look(layout: Layout, path: str) -> bool:
    """Whether the live tree has changed since its state was last known, which it is from now on.
    True where none was."""
    directory = layout.existing(path)
    probe_ns = probe(os.path.join(directory, ".probe"), in_use=True)
    with (
        closing(open_root(os.path.join(directory, "live"))) as live,
        open_basis(layout, directory) as basis,
    ):
        before = _newest_state(layout, path, directory, basis)
        known = nothing_known if before is None else before.known
        found = _remember(directory, LOOKED, live, probe_ns, known)
    return before is None or before.manifest.root != found.root


def forget_look(directory: str) -> None:
    """The newest snapshot has the state that a look saw, or a later one."""
    for name in (f"{LOOKED}.index", f"{LOOKED}.manifest"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(directory, name))


def knows(basis: Basis | None) -> Knows:
    """What is known of a live tree's files by the snapshot that it has most in common with."""
    return nothing_known if basis is None else _State(basis.index, basis.manifest).known


class _Differs(Exception):
    """The first difference was met."""


def unchanged_rows(live: int, index: Index, manifest: Manifest) -> list[Row] | None:
    """The files of a tree that is what the manifest says; None where it is not.

    Only a file whose metadata are right but whose ctime is not the known one is read.
    """

    def known(path: bytes, stat: os.stat_result) -> Known | None:
        entry = manifest.entry(path)
        if entry is None or entry.kind is not Kind.FILE:
            raise _Differs
        if (entry.value, entry.metadata) != (stat.st_size, metadata_of(stat)):
            raise _Differs
        return index.known(manifest, path, stat)

    scan = TreeScan(known)
    try:
        found = scan.run(live)
    except _Differs:
        return None
    return scan.rows if found.root == manifest.root else None


def write_index(directory: str, guid: Guid, live: int, probe_ns: int, rows: list[Row]) -> None:
    """Notes which inodes of the live tree have the content that a snapshot's manifest names."""
    index = build_index(guid, os.fstat(live), probe_ns, rows)
    replace_file(os.path.join(directory, "index"), dump_index(index))


def _newest_state(layout: Layout, path: str, directory: str, basis: Basis | None) -> _State | None:
    looked = _state(directory, LOOKED)
    if looked is not None:
        return looked
    head = layout.head(path)
    if basis is not None and head is not None and basis.index.guid == head.record.guid:
        return _State(basis.index, basis.manifest)
    return _state(directory, SETTLED)


def _state(directory: str, word: str) -> _State | None:
    index = load_index(os.path.join(directory, f"{word}.index"))
    if index is None:
        return None
    with open(os.path.join(directory, f"{word}.manifest"), "rb") as file:
        return _State(index, load(file.read()))


def _remember(directory: str, word: str, live: int, probe_ns: int, known: Knows) -> Manifest:
    """Scans the live tree and keeps its state. The index comes last: it makes the state known."""
    scan = TreeScan(known)
    manifest = scan.run(live)
    index = build_index("", os.fstat(live), probe_ns, scan.rows)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(directory, f"{word}.index"))
    replace_file(os.path.join(directory, f"{word}.manifest"), dump(manifest))
    replace_file(os.path.join(directory, f"{word}.index"), dump_index(index))
    return manifest
