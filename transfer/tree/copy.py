"""Copying a tree: content, holes, modes, owners, times, symlinks, hard links, devices, xattrs.

Owners and devices need root; what could not be kept is counted in the report.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from transfer.tree.chunk import copy_file, data_bytes, hash_file, reflink
from transfer.tree.descriptor import (
    closing,
    copy_xattrs,
    create_file,
    hard_link,
    open_directory,
    open_root,
    set_metadata,
    set_metadata_at,
)
from transfer.tree.manifest import Manifest
from transfer.tree.node import Entry, Kind
from transfer.tree.scan import (
    READ_ATTEMPTS,
    Known,
    Knows,
    Row,
    Spot,
    TreeScan,
    metadata_of,
    nothing_known,
    open_spot,
    row_of,
    same_state,
)


@dataclass(frozen=True, slots=True)
class CopyReport:
    """What a copy did. `copied_bytes` are content that was written, holes left out;
    `inconsistent_files` were written all the time; `dropped` counts by kind what was not kept."""

    files: int
    copied_bytes: int
    inconsistent_files: int
    dropped: dict[str, int] = field(default_factory=dict)


def copy_tree(source_dir: str, target_dir: str, on_bytes: Callable[[int], None]) -> CopyReport:
    """Copies all below `source_dir`, and its own metadata, into the empty `target_dir`.

    Blocks; `on_bytes` is called in this thread with what each file added. A symlink is never
    followed, nor may either root be one. Raises OSError, StorageError.
    """
    with closing(open_root(source_dir)) as source, closing(open_root(target_dir)) as target:
        copy = TreeCopy(target, on_bytes)
        copy.run(source)
        return copy.report()


class TreeCopy(TreeScan):
    """A walk that copies what it meets, and makes the manifest of the copy.

    A file that `knows` has a `link` for is linked from `base` (the root of an immutable tree)
    instead; one that it knows the chunks of is not read where it can be reflinked. `made` are the
    files of the copy that are not linked; of one inode's rows the last counts.
    """

    def __init__(
        self,
        target: int,
        on_bytes: Callable[[int], None],
        *,
        knows: Knows = nothing_known,
        base: int | None = None,
        reflinks: bool = False,
    ) -> None:
        super().__init__(knows)
        self._root = target
        self._targets: list[int] = [target]
        self._on_bytes = on_bytes
        self._base = base
        self._reflinks = reflinks
        self._files = 0
        self.copied_bytes = 0
        self.made: list[Row] = []

    def run(self, root: int) -> Manifest:
        """Copies the tree below the open directory; returns the manifest of the copy."""
        try:
            return super().run(root)
        finally:
            for descriptor in self._targets[1:]:
                os.close(descriptor)
            del self._targets[1:]

    def report(self) -> CopyReport:
        """What the run did."""
        return CopyReport(self._files, self.copied_bytes, self.inconsistent_files, self.dropped)

    def _enter(self, spot: Spot) -> None:
        target = self._targets[-1]
        os.mkdir(spot.name, 0o700, dir_fd=target)
        self._targets.append(open_directory(target, spot.name))

    def _leave(self, directory: int, own: os.stat_result) -> None:
        target = self._targets[-1]
        set_metadata(target, metadata_of(own))
        self._copy_xattrs(directory, target)
        if len(self._targets) > 1:
            os.close(self._targets.pop())

    def _special(self, spot: Spot, entry: Entry) -> bool:
        target = self._targets[-1]
        if entry.kind is Kind.SYMLINK:
            os.symlink(entry.text, spot.name, dir_fd=target)
        else:
            try:
                os.mknod(spot.name, spot.stat.st_mode, entry.value, dir_fd=target)
            except PermissionError:
                self._drop(entry.kind.name.lower())
                return False
        is_symlink = entry.kind is Kind.SYMLINK
        set_metadata_at(target, spot.name, metadata_of(spot.stat), has_mode=not is_symlink)
        return True

    def _follow(self, spot: Spot, leader: Entry) -> None:
        os.link(
            leader.name,
            spot.name,
            src_dir_fd=self._root,
            dst_dir_fd=self._targets[-1],
            follow_symlinks=False,
        )
        # One more name moves the file's ctime.
        made = os.stat(spot.name, dir_fd=self._targets[-1], follow_symlinks=False)
        self.made.append(row_of(leader.name, made))

    def _content(self, spot: Spot, known: Known | None) -> tuple[os.stat_result, bytes, int]:
        target = self._targets[-1]
        self._files += 1
        if known is not None and self._linked(known, spot):
            self._remember(spot.path, spot.stat)
            return spot.stat, known.chunks, spot.stat.st_size
        with closing(open_spot(spot)) as file:
            for _ in range(READ_ATTEMPTS):
                before = self._checked(file)
                chunks, size = self._copy_content(spot, file, before, known)
                after = os.fstat(file)
                if same_state(before, after) and size == after.st_size:
                    self._remember(spot.path, after)
                    break
                os.unlink(spot.name, dir_fd=target)
            else:
                chunks, size = self._copy_content(spot, file, before, None)
                self.inconsistent_files += 1
        copied = data_bytes(size, chunks)
        self.copied_bytes += copied
        self._on_bytes(copied)
        return before, chunks, size

    def _linked(self, known: Known, spot: Spot) -> bool:
        if known.link is None or self._base is None:
            return False
        return hard_link(self._base, known.link, self._targets[-1], spot.name)

    def _copy_content(
        self, spot: Spot, file: int, stat: os.stat_result, known: Known | None
    ) -> tuple[bytes, int]:
        with closing(create_file(self._targets[-1], spot.name)) as copy:
            if self._reflinks and reflink(file, copy):
                same = known is not None and same_state(spot.stat, stat)
                # What is hashed is the copy, which nobody writes: so it is of one moment.
                content = (known.chunks, stat.st_size) if known and same else hash_file(copy)
            else:
                content = copy_file(file, copy)
            set_metadata(copy, metadata_of(stat))
            self._copy_xattrs(file, copy)
            self.made.append(row_of(spot.path, os.fstat(copy)))
            return content

    def _copy_xattrs(self, source: int, target: int) -> None:
        for _ in range(copy_xattrs(source, target)):
            self._drop("xattr")
