"""The snapshot that a live tree has most in common with, open while it is read.

It may be another dataset's and nobody holds it, so a lock on its directory keeps it from being
destroyed meanwhile; the lock dies with the process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass

from transfer.errors import DatasetBusy
from transfer.storage.directory_layout import Layout, Located
from transfer.tree.descriptor import closing, open_directory, open_file, open_root
from transfer.tree.index import Index, load_index
from transfer.tree.manifest import Manifest, load


@dataclass(frozen=True, slots=True)
class Basis:
    """What a live tree's index says it has in common with a snapshot: its manifest, and its
    immutable tree as an open directory."""

    index: Index
    manifest: Manifest
    tree: int


@contextlib.contextmanager
def open_basis(layout: Layout, directory: str) -> Iterator[Basis | None]:
    """The basis of the live tree in a dataset's directory; None where there is none any more."""
    index = load_index(os.path.join(directory, "index"))
    found = None if index is None else layout.find(index.guid)
    kept = None if found is None else _keep(found.directory)
    if index is None or kept is None:
        yield None
        return
    with closing(kept):
        # By the open directory, for a retire may give it another path.
        with open(open_file(kept, b"manifest"), "rb") as file:
            manifest = load(file.read())
        with closing(open_directory(kept, b"tree")) as tree:
            yield Basis(index, manifest, tree)


@contextlib.contextmanager
def alone(snapshot: Located) -> Iterator[None]:
    """Keeps everybody from opening a snapshot as a basis. Raises DatasetBusy where it is one."""
    with closing(open_root(snapshot.directory)) as descriptor:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DatasetBusy(
                f"{snapshot.path}@{snapshot.name} is being read", path=snapshot.path
            ) from error
        yield


def _keep(directory: str) -> int | None:
    """The open directory of a snapshot that is not destroyed until it is closed."""
    try:
        descriptor = open_root(directory)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if os.path.samestat(os.stat(directory), os.fstat(descriptor)):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass  # somebody destroys it just now, or has
    os.close(descriptor)
    return None
