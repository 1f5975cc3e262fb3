"""Mounting, moving and destroying datasets of a dir storage. Everything here blocks."""

from __future__ import annotations

import contextlib
import errno
import os

from transfer.errors import DatasetBusy, DatasetMissing
from transfer.model import Guid
from transfer.storage.directory_basis import alone
from transfer.storage.directory_known import forget_look
from transfer.storage.directory_layout import BUILDING, GOING, PASSABLE, Layout, Located
from transfer.tree.remove import remove_tree


def mount(layout: Layout, mount_root: str, path: str) -> str:
    """Puts a symlink to the live tree under the mount root; returns the tree's own path."""
    live = os.path.join(layout.existing(path), "live")
    if not os.path.isdir(live):
        raise DatasetMissing(f"{path} has no live tree", path=path)
    link = link_of(mount_root, path)
    os.makedirs(os.path.dirname(link), mode=PASSABLE, exist_ok=True)
    temporary = f"{link}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    os.symlink(live, temporary)
    os.replace(temporary, link)
    return live


def unmount(mount_root: str, path: str) -> None:
    """Takes the symlink away."""
    if not path.startswith("containers/"):
        return
    link = link_of(mount_root, path)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(link)
    _remove_empty(os.path.dirname(link))


def retire(layout: Layout, path: str, mirror: str) -> None:
    """Moves a dataset and drops its live tree. Raises DatasetBusy, DatasetMissing."""
    source, target = layout.dataset(path), layout.dataset(mirror)
    if os.path.isdir(source):
        if os.path.isdir(target):
            raise DatasetBusy(f"{mirror} exists already", path=mirror)
        os.rename(source, target)
        _remove_empty(os.path.dirname(source))
    trim(layout, mirror)


def trim(layout: Layout, path: str) -> None:
    """Drops the live tree, and whatever was half-made or half-removed."""
    directory = layout.existing(path)
    remove_tree(os.path.join(directory, "live"))
    forget_look(directory)
    for name in ("index", "settled.index", "settled.manifest"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(directory, name))
    snapshots = os.path.join(directory, "snapshots")
    for name in os.listdir(snapshots):
        if name.startswith("."):
            remove_tree(os.path.join(snapshots, name))


def require_unheld(layout: Layout, path: str, guid: Guid) -> Located | None:
    """A dataset's snapshot, None where it is gone. Raises DatasetBusy where it is held."""
    found = layout.find(guid)
    if found is None or found.path != path:
        return None
    holds = layout.holds(path, found.name)
    if holds:
        raise DatasetBusy(f"{path}@{found.name} is held", path=path, holds=holds)
    return found


def destroy_snapshot(layout: Layout, path: str, guid: Guid) -> None:
    """Destroys a snapshot; one that is gone is fine, and one that clones were made from.
    Raises DatasetBusy where it is held or being read."""
    found = require_unheld(layout, path, guid)
    if found is None:
        return
    snapshots = os.path.dirname(found.directory)
    with alone(found):
        remove_tree(os.path.join(snapshots, GOING + found.name))
        os.rename(found.directory, os.path.join(snapshots, GOING + found.name))
    for name in os.listdir(snapshots):
        if name.startswith(GOING):  # also what a killed process has left
            remove_tree(os.path.join(snapshots, name))


def destroy(layout: Layout, path: str) -> None:
    """Destroys a dataset, also what is half-made of it. Raises DatasetBusy with a snapshot."""
    dataset = layout.read(path)
    if dataset is not None and dataset.snapshots:
        raise DatasetBusy(f"{path} has snapshots", path=path)
    parent, name = os.path.split(layout.dataset(path))
    going = os.path.join(parent, f"{GOING}{name}")
    remove_tree(going)
    if dataset is not None:
        os.rename(layout.dataset(path), going)
    for scratch in (going, os.path.join(parent, f"{BUILDING}{name}")):
        remove_tree(scratch)
    if path.startswith("containers/"):
        _remove_empty(parent)


def link_of(mount_root: str, path: str) -> str:
    """Where a dataset's live tree is seen."""
    return os.path.join(mount_root, *path.split("/")[1:])


def _remove_empty(directory: str) -> None:
    try:
        os.rmdir(directory)
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.ENOENT, errno.EEXIST}:
            raise
