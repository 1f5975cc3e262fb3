"""What containers must be, in plain Python: each one's tree, and the tree of each snapshot that
it lists. Nothing here knows of servers, generations, bases or collect: they must not show."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from daemon.actions.identity import IDENTITY_PATHS


@dataclass(frozen=True)
class File:
    """A file's content, and the whole seconds of its modification time."""

    content: bytes
    mtime_seconds: int


Tree = dict[str, File | None]
"""What is at each relative path; None for a directory."""


@dataclass(frozen=True)
class Edit:
    """One change of a tree: `write` a file, make a `folder`, `move`, `remove`."""

    verb: str
    path: str
    to: str = ""
    file: File | None = None


@dataclass(frozen=True)
class Entry:
    """A snapshot on a container's list; `number` is the order of its making."""

    number: int
    tree: Tree
    inherited: bool = False


@dataclass
class Kept:
    """A container: `had` are the snapshots that it ever listed, by their ids."""

    tree: Tree
    source: str | None = None
    snapshots: dict[str, Entry] = field(default_factory=dict)
    had: set[str] = field(default_factory=set)

    def newest_first(self) -> list[str]:
        """The ids of what it lists."""
        return sorted(self.snapshots, key=lambda id: -self.snapshots[id].number)

    def take(self, snapshot_id: str, entry: Entry) -> None:
        self.snapshots[snapshot_id] = entry
        self.had.add(snapshot_id)

    def inherit(self, source: Kept, up_to: Entry | None = None) -> None:
        """Lists what the source lists and this one never had, nothing newer than `up_to`."""
        for snapshot_id, entry in source.snapshots.items():
            if snapshot_id in self.had or (up_to and entry.number > up_to.number):
                continue
            self.take(snapshot_id, Entry(entry.number, entry.tree, inherited=True))


class Model:
    """Containers by name, each with its source's name."""

    def __init__(self) -> None:
        self.containers: dict[str, Kept] = {}
        self._snapshots = 0

    def create(self, name: str, tree: Tree) -> None:
        self.containers[name] = Kept(tree)

    def edit(self, name: str, edit: Edit) -> None:
        kept = self.containers[name]
        kept.tree = edited(kept.tree, edit)

    def snapshot(self, name: str, snapshot_id: str) -> None:
        self._snapshots += 1
        kept = self.containers[name]
        kept.take(snapshot_id, Entry(self._snapshots, kept.tree))

    def copy(self, name: str, source: str, snapshot_id: str | None = None) -> None:
        """Of what is live, or of the snapshot."""
        original = self.containers[source]
        entry = original.snapshots[snapshot_id] if snapshot_id else None
        copy = Kept(entry.tree if entry else original.tree, source)
        copy.inherit(original, entry)
        self.containers[name] = copy

    def sync(self, name: str) -> None:
        copy = self.containers[name]
        source = self.containers[copy.source or ""]
        copy.tree = source.tree
        copy.inherit(source)

    def restore(self, name: str, snapshot_id: str) -> None:
        kept = self.containers[name]
        kept.tree = kept.snapshots[snapshot_id].tree

    def delete_snapshot(self, name: str, snapshot_id: str) -> None:
        del self.containers[name].snapshots[snapshot_id]

    def delete(self, name: str) -> None:
        del self.containers[name]

    # What can be done.

    def copies(self, *, orphaned: bool) -> list[str]:
        """The copies whose source is there, or those whose source is gone."""
        return [
            name
            for name, kept in self.containers.items()
            if kept.source is not None and (kept.source not in self.containers) is orphaned
        ]

    def with_snapshots(self) -> list[str]:
        return [name for name, kept in self.containers.items() if kept.snapshots]


def edited(tree: Tree, edit: Edit) -> Tree:
    """The tree after a change."""
    after = dict(tree)
    if edit.verb == "write":
        after[edit.path] = edit.file
    elif edit.verb == "folder":
        after[edit.path] = None
    else:
        for path in _at(tree, edit.path):
            moved = after.pop(path)
            if edit.verb == "move":
                after[edit.to + path.removeprefix(edit.path)] = moved
    return after


def _at(tree: Tree, path: str) -> list[str]:
    """A path and what is below it."""
    return [other for other in tree if other == path or other.startswith(f"{path}/")]


def carry_out(root: Path, edit: Edit) -> None:
    """Makes the change in a directory."""
    path = root / edit.path
    if edit.verb == "write" and edit.file is not None:
        path.write_bytes(edit.file.content)
        os.utime(path, (0, edit.file.mtime_seconds))
    elif edit.verb == "folder":
        path.mkdir()
    elif edit.verb == "move":
        path.rename(root / edit.to)
    else:
        for below in [*sorted(path.rglob("*"), reverse=True), path]:
            below.rmdir() if below.is_dir() else below.unlink()


def read(root: Path) -> Tree:
    """What is in a directory, but for a container's own identity."""
    return dict(_walk(root))


def _walk(root: Path) -> Iterator[tuple[str, File | None]]:
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        if name in IDENTITY_PATHS:
            continue
        if path.is_dir():
            yield name, None
        else:
            yield name, File(path.read_bytes(), int(path.stat().st_mtime))
