"""Taking a directory or an archive of this machine in as a new, frozen dataset of a dir storage.
Everything here blocks."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

from transfer.errors import SourcePathInvalid
from transfer.storage import directory_change
from transfer.storage.directory_freeze import built_of, fresh_tree, publish
from transfer.storage.directory_layout import DatasetRecord, Layout, Located
from transfer.tree.copy import TreeCopy
from transfer.tree.descriptor import closing, open_root
from transfer.tree.scan import TreeScan
from transfer.tree.source import OnBytes
from transfer.tree.unpack import check_archive, unpack_tree


@dataclass(frozen=True, slots=True)
class Tarball:
    """An archive, the room that there is for what it holds, and who is told of what is written."""

    archive: str
    bytes_max: int
    on_bytes: OnBytes


def take_in(layout: Layout, tree: str, path: str, name: str, on_bytes: OnBytes) -> Located:
    """A new dataset with one snapshot, of a directory."""
    source = _open_import(tree)
    with closing(source):
        layout.make_dataset(path, DatasetRecord())
        target_dir = fresh_tree(layout.building(path, name))
        with closing(open_root(target_dir)) as target:
            copy = TreeCopy(target, on_bytes)
            try:
                manifest = copy.run(source)
            except PermissionError as error:
                raise SourcePathInvalid(f"{tree} cannot be read whole", path=tree) from error
    return publish(layout, path, name, built_of(manifest, copy.report()))


def unpack(layout: Layout, tarball: Tarball, path: str, name: str) -> Located:
    """A new dataset with one snapshot, of an archive; nothing stays of one that fails."""
    check_archive(tarball.archive)
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(directory_change.destroy, layout, path)
        layout.make_dataset(path, DatasetRecord())
        target_dir = fresh_tree(layout.building(path, name))
        report = unpack_tree(tarball.archive, target_dir, tarball.bytes_max, tarball.on_bytes)
        with closing(open_root(target_dir)) as target:
            try:
                manifest = TreeScan().run(target)
            except PermissionError as error:  # as root, nothing is closed to us
                closed = f"what is in {tarball.archive} cannot be read whole without root"
                raise SourcePathInvalid(closed, path=tarball.archive) from error
        found = publish(layout, path, name, built_of(manifest, report))
        on_failure.pop_all()
    return found


def _open_import(tree: str) -> int:
    if not os.path.isabs(tree):
        raise SourcePathInvalid(f"{tree} is not an absolute path", path=tree)
    try:
        return open_root(tree)
    except OSError as error:
        raise SourcePathInvalid(f"{tree} is no readable directory", path=tree) from error
