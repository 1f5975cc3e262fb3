"""Making snapshots and live trees of a dir storage. Everything here blocks.

A live tree is never linked to anything: what is linked are immutable snapshots among themselves.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from transfer.errors import StorageError, VerifyMismatch
from transfer.model import Guid
from transfer.storage.directory_basis import Basis, open_basis
from transfer.storage.directory_known import forget_look, knows, unchanged_rows, write_index
from transfer.storage.directory_layout import (
    BUILDING,
    PASSABLE,
    PRIVATE,
    DatasetRecord,
    Layout,
    Located,
    SnapshotRecord,
    write_record,
)
from transfer.tree.copy import CopyReport, TreeCopy
from transfer.tree.descriptor import (
    IS_ROOT,
    closing,
    open_root,
    replace_file,
    sync_directory,
    sync_filesystem,
)
from transfer.tree.index import probe
from transfer.tree.manifest import Manifest, dump
from transfer.tree.node import Kind
from transfer.tree.remove import remove_tree
from transfer.tree.scan import Known, Knows, Row


@dataclass(frozen=True, slots=True)
class Built:
    """A snapshot whose tree stands in its building place, not published yet."""

    manifest: Manifest
    guid: Guid
    unique_bytes: int
    inconsistent_files: int = 0
    dropped: Mapping[str, int] | None = None


def publish(layout: Layout, path: str, name: str, built: Built) -> Located:
    """Brings what was built to the disk, then makes it visible with one rename."""
    building = layout.building(path, name)
    dataset = layout.read(path)
    head = None if dataset is None else dataset.head
    record = SnapshotRecord(
        guid=built.guid,
        order=1 if head is None else head.order + 1,
        root=built.manifest.root.hex(),
        referenced_bytes=built.manifest.data_bytes,
        unique_bytes=built.unique_bytes,
        inconsistent_files=built.inconsistent_files,
        dropped=dict(built.dropped or {}),
    )
    replace_file(os.path.join(building, "manifest"), dump(built.manifest))
    write_record(os.path.join(building, "snapshot.json"), record)
    with closing(open_root(building)) as descriptor:
        sync_filesystem(descriptor)
    finished = layout.snapshot(path, name)
    os.rename(building, finished)
    sync_directory(os.path.dirname(finished))
    return Located(path, name, finished, record)


def freeze(layout: Layout, path: str, name: str, *, reflinks: bool) -> Located:
    """A snapshot of the live tree, or the newest one where nothing has changed since."""
    directory = layout.existing(path)
    live_dir = os.path.join(directory, "live")
    if not os.path.isdir(live_dir):
        raise StorageError(f"{path} has no live tree", path=path)
    _drop_others(layout.building(path, name))
    head = layout.head(path)
    forget_look(directory)
    probe_ns = probe(os.path.join(directory, ".probe"), in_use=True)
    with closing(open_root(live_dir)) as live, open_basis(layout, directory) as basis:
        if basis is not None and head is not None and basis.index.guid == head.record.guid:
            same = unchanged_rows(live, basis.index, basis.manifest)
            if same is not None:
                write_index(directory, basis.index.guid, live, probe_ns, same)
                return head
        built, rows = _copy_live(layout.building(path, name), live, basis, reflinks=reflinks)
        if head is not None and head.record.root == built.manifest.root.hex():
            remove_tree(layout.building(path, name))
            found = head
        else:
            found = publish(layout, path, name, built)
        write_index(directory, found.record.guid, live, probe_ns, rows)
    return found


def clone(
    layout: Layout, origin: Located, path: str, properties: dict[str, str], *, reflinks: bool
) -> None:
    """A new dataset whose live tree is a copy of a snapshot's, with these properties."""
    finished = layout.dataset(path)
    if os.path.isdir(finished):
        return
    parent, name = os.path.split(finished)
    os.makedirs(parent, mode=PASSABLE, exist_ok=True)
    building = os.path.join(parent, f"{BUILDING}{name}")
    remove_tree(building)
    try:
        _clone_into(building, origin, properties, reflinks=reflinks)
        os.rename(building, finished)
        sync_directory(parent)
    finally:
        remove_tree(building)  # what an error has left, as that of a full disk


def _clone_into(
    building: str, origin: Located, properties: dict[str, str], *, reflinks: bool
) -> None:
    os.makedirs(os.path.join(building, "live"), mode=PASSABLE)
    for inner in ("snapshots", "holds"):
        os.mkdir(os.path.join(building, inner), PRIVATE)
    manifest = origin.manifest()
    with (
        closing(open_root(origin.tree)) as source,
        closing(open_root(os.path.join(building, "live"))) as live,
    ):
        copy = TreeCopy(live, _ignore, knows=_content_of(manifest), reflinks=reflinks)
        found = copy.run(source)
        # Without root, owners cannot be kept; all else was hashed or reflinked.
        if IS_ROOT and found.root != manifest.root:
            raise VerifyMismatch(
                "a snapshot's tree is not what its manifest says", path=origin.path
            )
        probe_ns = probe(os.path.join(building, ".probe"), in_use=False)
        write_index(building, origin.record.guid, live, probe_ns, copy.made)
        live_bytes = 0 if reflinks else copy.copied_bytes
        record = DatasetRecord(origin.record.guid, live_bytes, properties)
        write_record(os.path.join(building, "dataset.json"), record)
        sync_filesystem(live)


def _drop_others(building: str) -> None:
    """Removes what snapshots of this live tree have left half-made whose process was killed:
    under the work lock nobody else makes one."""
    directory, own = os.path.split(building)
    for name in os.listdir(directory):
        if name.startswith(BUILDING) and name != own:
            remove_tree(os.path.join(directory, name))


def _copy_live(
    building: str, live: int, basis: Basis | None, *, reflinks: bool
) -> tuple[Built, list[Row]]:
    base = None if basis is None else basis.tree
    with closing(open_root(fresh_tree(building))) as target:
        copy = TreeCopy(target, _ignore, knows=knows(basis), base=base, reflinks=reflinks)
        manifest = copy.run(live)
    return built_of(manifest, copy.report()), copy.rows


def built_of(manifest: Manifest, report: CopyReport) -> Built:
    """A snapshot that stands in its building place, with a GUID of its own."""
    return Built(
        manifest, new_guid(), report.copied_bytes, report.inconsistent_files, report.dropped
    )


def new_guid() -> Guid:
    """A random 64-bit identity as decimal text."""
    return str(secrets.randbits(64))


def fresh_tree(building: str) -> str:
    """The empty directory for the tree of a snapshot that is built there."""
    remove_tree(building)
    tree = os.path.join(building, "tree")
    os.makedirs(tree, mode=PRIVATE)
    return tree


def _content_of(manifest: Manifest) -> Knows:
    """Knows every file of a tree that was made after the manifest."""

    def known(path: bytes, stat: os.stat_result) -> Known | None:
        entry = manifest.entry(path)
        if entry is None or entry.kind is not Kind.FILE or entry.value != stat.st_size:
            return None
        return Known(manifest.chunk_list(path, entry))

    return known


def _ignore(count: int) -> None:
    """A clone's and a snapshot's bytes are local: nobody counts them."""
