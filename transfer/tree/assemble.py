"""Building a tree from a manifest, a base and staged files.

Every path here comes from another server. Names were checked when the manifest was decoded; each
entry is made by a descriptor of its directory, in a tree that nobody else can reach, and only
where nothing is yet: so a symlink that the manifest has can never be on the way to another entry.
"""

from __future__ import annotations

import os
import stat as modes
from collections.abc import Mapping
from dataclasses import dataclass

from transfer.errors import CannotExpress, VerifyMismatch
from transfer.tree.chunk import content_digest, copy_file, reflink
from transfer.tree.descriptor import (
    IS_ROOT,
    closing,
    create_file,
    hard_link,
    open_beneath,
    open_directory,
    set_metadata,
    set_metadata_at,
)
from transfer.tree.manifest import Manifest
from transfer.tree.node import Entry, Kind, Metadata, join
from transfer.tree.scan import Known, TreeScan, metadata_of
from transfer.tree.stage import stage_name

_TYPES = {Kind.FIFO: modes.S_IFIFO, Kind.CHARACTER: modes.S_IFCHR, Kind.BLOCK: modes.S_IFBLK}


@dataclass(frozen=True, slots=True)
class Parts:
    """Where the files' content comes from.

    `linked` maps a path to that of the same file, in every respect, in the base's immutable tree;
    `copied` to that of a file with the same content; all others are staged. `base` and `stage`
    are open directories.
    """

    manifest: Manifest
    linked: Mapping[bytes, bytes]
    copied: Mapping[bytes, bytes]
    base: int | None
    stage: int


def assemble(parts: Parts, root: int) -> None:
    """Builds the tree in the empty open directory. Blocks. Raises OSError, CannotExpress."""
    _Assembly(parts, root).directory(b"", root)


def verify(parts: Parts, root: int) -> None:
    """Reads back what was built, metadata and structure; content was checked as it was written.

    Raises VerifyMismatch.
    """
    found = _Rebuilt(parts.manifest).run(root)
    if found.root != parts.manifest.root:
        raise VerifyMismatch(
            "the tree that was built differs from the source's",
            source=parts.manifest.root.hex(),
            target=found.root.hex(),
        )


class _Assembly:
    def __init__(self, parts: Parts, root: int) -> None:
        self._parts = parts
        self._root = root
        self._used: set[str] = set()

    def directory(self, path: bytes, target: int) -> None:
        """Fills the open directory, then gives it its metadata."""
        node = self._parts.manifest.node(path)
        for entry in node.entries:
            inner = join(path, entry.name)
            if entry.kind is Kind.DIRECTORY:
                os.mkdir(entry.name, 0o700, dir_fd=target)
                with closing(open_directory(target, entry.name)) as child:
                    self.directory(inner, child)
            elif entry.kind is Kind.FILE:
                self._file(inner, entry, target)
            else:
                _special(entry, target)
        set_metadata(target, node.metadata)

    def _file(self, path: bytes, entry: Entry, target: int) -> None:
        if entry.text:  # the leader comes first in the walk, or the manifest lies
            with closing(open_beneath(self._root, os.path.dirname(entry.text))) as held:
                name = os.path.basename(entry.text)
                os.link(name, entry.name, src_dir_fd=held, dst_dir_fd=target, follow_symlinks=False)
            return
        base = self._parts.base
        if base is not None and path in self._parts.linked:
            if not hard_link(base, self._parts.linked[path], target, entry.name):
                self._copy(base, self._parts.linked[path], entry, target)
        elif base is not None and path in self._parts.copied:
            self._copy(base, self._parts.copied[path], entry, target)
        else:
            self._take_staged(entry, target)

    def _take_staged(self, entry: Entry, target: int) -> None:
        name = stage_name(entry)
        stage = self._parts.stage
        # A link, not a rename: an attempt that ends here leaves the next one all that it fetched.
        if name in self._used or not hard_link(stage, name.encode(), target, entry.name):
            self._copy(stage, name.encode(), entry, target)
            return
        self._used.add(name)
        with closing(os.open(entry.name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=target)) as file:
            set_metadata(file, _metadata(entry))

    def _copy(self, root: int, path: bytes, entry: Entry, target: int) -> None:
        with (
            closing(open_beneath(root, path)) as source,
            closing(create_file(target, entry.name)) as copy,
        ):
            if not reflink(source, copy):
                chunks, _ = copy_file(source, copy)
                if content_digest(chunks) != entry.digest:
                    raise VerifyMismatch("a file of the base is not what its manifest says")
            set_metadata(copy, _metadata(entry))


class _Rebuilt(TreeScan):
    """A walk that knows every file's content from the manifest, and reads none."""

    def __init__(self, manifest: Manifest) -> None:
        super().__init__(self._expected)
        self._manifest = manifest

    def _expected(self, path: bytes, stat: os.stat_result) -> Known | None:
        entry = self._manifest.entry(path)
        if entry is None or entry.kind is not Kind.FILE or entry.value != stat.st_size:
            return None
        return Known(self._manifest.chunk_list(path, entry))

    def _metadata(self, path: bytes, stat: os.stat_result) -> Metadata:
        found = metadata_of(stat)
        if IS_ROOT:
            return found
        # Without root the files are ours, whoever owns them on the source: the manifest keeps
        # the source's word for it.
        said = self._manifest.metadata_at(path)
        if said is None:
            return found
        return Metadata(found.mode, said.uid, said.gid, found.mtime_ns)


def _special(entry: Entry, target: int) -> None:
    if entry.kind is Kind.SYMLINK:
        os.symlink(entry.text, entry.name, dir_fd=target)
    else:
        mode = _TYPES[entry.kind] | 0o600
        try:
            os.mknod(entry.name, mode, entry.value, dir_fd=target)
        except PermissionError as error:
            raise CannotExpress("a tree with device nodes can only be built by root") from error
    has_mode = entry.kind is not Kind.SYMLINK
    set_metadata_at(target, entry.name, _metadata(entry), has_mode=has_mode)


def _metadata(entry: Entry) -> Metadata:
    if entry.metadata is None:
        raise VerifyMismatch("an entry has no metadata")
    return entry.metadata
