"""Content diff: a source's tree, built from what a base has and the chunks that are missing."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

from transfer.tree.assemble import Parts, assemble, verify
from transfer.tree.chunk import data_bytes
from transfer.tree.descriptor import closing, open_root
from transfer.tree.fetch import fetch_manifest
from transfer.tree.manifest import Manifest
from transfer.tree.node import Kind
from transfer.tree.remove import remove_tree
from transfer.tree.source import OnBytes, TreeSource
from transfer.tree.stage import LocalChunks, Run, Wanted, fetch_runs, prepare, stage_name


@dataclass(frozen=True, slots=True)
class Base:
    """A snapshot of this storage: its manifest, and its immutable tree."""

    manifest: Manifest
    tree: str


@dataclass(frozen=True, slots=True)
class Built:
    """A tree that was built; `new_bytes` of its content, holes left out, are not linked from
    the base."""

    manifest: Manifest
    new_bytes: int


async def build_from(
    source: TreeSource, guid: str, base: Base | None, work: str, on_bytes: OnBytes
) -> Built:
    """Builds the source's snapshot as `work/tree`.

    `work` is a directory of our own; what an earlier attempt has fetched is in `work/staged` and
    used again. `on_bytes` is told what comes from the source, as it comes.
    Raises StreamCorrupt, VerifyMismatch, CannotExpress, OSError.
    """
    known = None if base is None else base.manifest
    manifest = await fetch_manifest(source, guid, known, on_bytes)
    building = await asyncio.to_thread(_Building, manifest, base, work)
    try:
        missing = await asyncio.to_thread(building.prepare)
        await fetch_runs(source, guid, building.parts.stage, missing, on_bytes)
        await asyncio.to_thread(building.finish)
    finally:
        building.close()
    linked = building.parts.linked
    new = (
        data_bytes(entry.value, manifest.chunk_list(path, entry))
        for path, entry in manifest.leaders()
        if path not in linked
    )
    return Built(manifest, sum(new))


class _Building:
    """The blocking parts of one attempt, and its open directories."""

    def __init__(self, manifest: Manifest, base: Base | None, work: str) -> None:
        self._work = work
        self._base = base
        linked, copied = ({}, {}) if base is None else _from_base(manifest, base.manifest)
        staged = os.path.join(work, "staged")
        os.makedirs(staged, mode=0o700, exist_ok=True)
        self._opened = [open_root(staged)]
        if base is not None:
            self._opened.append(open_root(base.tree))
        base_root = self._opened[1] if base is not None else None
        self.parts = Parts(manifest, linked, copied, base_root, self._opened[0])

    def close(self) -> None:
        """Closes the directories."""
        for descriptor in self._opened:
            os.close(descriptor)

    def prepare(self) -> list[Run]:
        """Stages what is not in the base as a whole; returns the chunks that are missing."""
        parts = self.parts
        wanted = {
            stage_name(entry): Wanted(
                path, stage_name(entry), entry.value, parts.manifest.chunk_list(path, entry)
            )
            for path, entry in parts.manifest.leaders()
            if path not in parts.linked and path not in parts.copied
        }
        local = None
        if wanted and self._base is not None and parts.base is not None:
            local = LocalChunks(self._base.manifest, parts.base)
        return prepare(parts.stage, list(wanted.values()), local)

    def finish(self) -> None:
        """Builds the tree, reads it back, and lets the staged names go."""
        tree = os.path.join(self._work, "tree")
        remove_tree(tree)
        os.mkdir(tree, 0o700)
        with closing(open_root(tree)) as root:
            assemble(self.parts, root)
            verify(self.parts, root)
        remove_tree(os.path.join(self._work, "staged"))


def _from_base(manifest: Manifest, base: Manifest) -> tuple[dict[bytes, bytes], dict[bytes, bytes]]:
    """What the base has: files to link (the same in every respect) and to copy (the same content).

    A renamed file, or one in a renamed directory, is linked like one that stayed.
    """
    same: dict[tuple[object, ...], bytes] = {}
    content: dict[tuple[bytes, int], bytes] = {}
    for path, entry in base.leaders():
        same.setdefault((entry.digest, entry.value, entry.metadata), path)
        content.setdefault((entry.digest, entry.value), path)
    linked: dict[bytes, bytes] = {}
    copied: dict[bytes, bytes] = {}
    taken: set[bytes] = set()
    for path, entry in manifest.leaders():
        at_path = base.entry(path)
        if at_path is not None and at_path.kind is Kind.FILE and at_path == entry:
            linked[path] = path
            taken.add(path)
    for path, entry in manifest.leaders():
        if path in linked:
            continue
        # One name each: two files that are merely equal must not become one inode.
        found = same.get((entry.digest, entry.value, entry.metadata))
        if found is not None and found not in taken:
            linked[path] = found
            taken.add(found)
        elif (entry.digest, entry.value) in content:
            copied[path] = content[entry.digest, entry.value]
    return linked, copied
