"""A dir storage's side of content diff: manifests and chunks of immutable snapshots.

Asks come from other servers: each is checked against the manifest before a file is opened.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterator, Sequence

from transfer.errors import SnapshotMissing, StorageError
from transfer.model import Guid
from transfer.storage.directory_layout import Layout, Located
from transfer.tree.chunk import CHUNK_BYTES, chunk_bytes, chunk_count, pread_all
from transfer.tree.descriptor import closing, open_beneath, open_root
from transfer.tree.manifest import Manifest, require_entry

MANIFESTS_MAX = 2
"""Manifests that stay in memory: a transfer asks for one, over and over."""

ASKS_MAX = 100_000
"""Paths or runs of one request."""

READ_BYTES = 4 * 1024 * 1024
"""Content that is read in one go."""

Want = tuple[bytes, int, int]


class Serving:
    """Reads snapshots for content diff."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._manifests: OrderedDict[Guid, Manifest] = OrderedDict()

    async def root(self, guid: Guid) -> bytes:
        """The digest of the whole tree. Raises SnapshotMissing."""
        found = await asyncio.to_thread(self._layout.require, guid)
        return bytes.fromhex(found.record.root)

    async def nodes(self, guid: Guid, paths: Sequence[bytes]) -> AsyncGenerator[bytes, None]:
        """The nodes of these directories. Raises SnapshotMissing."""
        _, manifest = await self._open(guid, len(paths))
        for path in paths:
            if path not in manifest.nodes:
                raise SnapshotMissing("the snapshot has no such directory", guid=guid)
            yield manifest.nodes[path]

    async def chunk_lists(self, guid: Guid, paths: Sequence[bytes]) -> AsyncGenerator[bytes, None]:
        """The chunk digests of these files. Raises SnapshotMissing."""
        _, manifest = await self._open(guid, len(paths))
        for path in paths:
            yield manifest.chunk_list(path, require_entry(manifest, path))

    async def chunks(self, guid: Guid, wants: Sequence[Want]) -> AsyncGenerator[bytes, None]:
        """The content of these chunks. Raises SnapshotMissing, StorageError."""
        found, manifest = await self._open(guid, len(wants))
        batches = _batches(manifest, wants)
        while batch := await asyncio.to_thread(next, batches, None):
            for data in await asyncio.to_thread(_read, found.tree, batch):
                yield data

    async def _open(self, guid: Guid, asks: int) -> tuple[Located, Manifest]:
        if asks > ASKS_MAX:
            raise StorageError(f"more than {ASKS_MAX} asks in one request")
        found = await asyncio.to_thread(self._layout.require, guid)
        if guid not in self._manifests:
            self._manifests[guid] = await asyncio.to_thread(found.manifest)
            if len(self._manifests) > MANIFESTS_MAX:
                self._manifests.popitem(last=False)
        self._manifests.move_to_end(guid)
        return found, self._manifests[guid]


def _batches(manifest: Manifest, wants: Sequence[Want]) -> Iterator[list[tuple[bytes, int, int]]]:
    """The chunks as (path, offset, length), so many that they fit into memory."""
    batch: list[tuple[bytes, int, int]] = []
    for path, first, count in wants:
        size = require_entry(manifest, path).value
        if first < 0 or count < 1 or first + count > chunk_count(size):
            raise StorageError("the file has no such chunks")
        for index in range(first, first + count):
            batch.append((path, index * CHUNK_BYTES, chunk_bytes(size, index)))
            if len(batch) * CHUNK_BYTES >= READ_BYTES:
                yield batch
                batch = []
    if batch:
        yield batch


def _read(tree: str, batch: Sequence[tuple[bytes, int, int]]) -> list[bytes]:
    blocks: list[bytes] = []
    opened: bytes | None = None
    file = -1
    with closing(open_root(tree)) as root:
        try:
            for path, offset, length in batch:
                if path != opened:
                    if file >= 0:
                        os.close(file)
                        file = -1
                    file = open_beneath(root, path)
                    opened = path
                blocks.append(pread_all(file, length, offset))
        finally:
            if file >= 0:
                os.close(file)
    return blocks
