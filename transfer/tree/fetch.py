"""The source's manifest, brought here as far as it differs from a base's.

Everything that comes is checked: a node and a list against the digest that named it, down from
the root's. What cannot be is StreamCorrupt.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing

from transfer.errors import StreamCorrupt
from transfer.tree.chunk import CHUNK_BYTES, DIGEST_BYTES, chunk_count, content_digest
from transfer.tree.manifest import Manifest, require_leader
from transfer.tree.node import (
    PATH_BYTES_MAX,
    Entry,
    Kind,
    Node,
    check_path,
    decode,
    join,
    node_digest,
)
from transfer.tree.scan import DEPTH_MAX
from transfer.tree.source import OnBytes, TreeSource

BATCH_PATHS_MAX = 1000
"""Paths of one request."""

BATCH_PATH_BYTES_MAX = 512 * 1024
"""The sum of their lengths."""

NODES_MAX = 4_000_000
"""Directories of one tree."""


async def fetch_manifest(
    source: TreeSource, guid: str, base: Manifest | None, on_bytes: OnBytes
) -> Manifest:
    """The manifest of the snapshot `guid`: subtrees and lists that `base` has are taken from it.

    Raises StreamCorrupt.
    """
    root = await source.tree_root(guid)
    if len(root) != DIGEST_BYTES:
        raise StreamCorrupt("a root digest has another length")
    fetch = _Fetch(source, guid, base, on_bytes)
    await fetch.nodes(root)
    manifest = Manifest(fetch.found, {})
    await fetch.lists(manifest)
    _check_links(manifest)
    return manifest


class _Fetch:
    def __init__(
        self, source: TreeSource, guid: str, base: Manifest | None, on_bytes: OnBytes
    ) -> None:
        self.found: dict[bytes, bytes] = {}
        self._source = source
        self._guid = guid
        self._base = base
        self._on_bytes = on_bytes
        self._here = {} if base is None else _by_digest(base)

    async def nodes(self, root: bytes) -> None:
        """Level by level, from the root down; what is here already is not asked for."""
        level = [(b"", root)]
        for _ in range(DEPTH_MAX + 1):
            missing = [(path, digest) for path, digest in level if not self._graft(path, digest)]
            level = []
            for batch in _batches([path for path, _ in missing]):
                wanted, missing = missing[: len(batch)], missing[len(batch) :]
                stream = self._source.tree_nodes(self._guid, batch)
                async with aclosing(exactly(stream, len(batch))) as answer:
                    expected = iter(wanted)
                    async for data in answer:
                        path, digest = next(expected)
                        self._on_bytes(len(data))
                        level += _children(path, self._checked(path, digest, data))
            if not level:
                return
        raise StreamCorrupt("a tree is too deep")

    async def lists(self, manifest: Manifest) -> None:
        """The chunk lists of the longer files; lists that are here already are not asked for."""
        here = {} if self._base is None else _lists_by_digest(self._base)
        missing: list[tuple[bytes, Entry]] = []
        for path, entry in manifest.leaders():
            if entry.value <= CHUNK_BYTES:
                continue
            listed = here.get((entry.digest, entry.value))
            if listed is None:
                missing.append((path, entry))
            else:
                manifest.chunks[path] = listed
        for batch in _batches([path for path, _ in missing]):
            wanted, missing = missing[: len(batch)], missing[len(batch) :]
            stream = self._source.tree_chunk_lists(self._guid, batch)
            async with aclosing(exactly(stream, len(batch))) as answer:
                expected = iter(wanted)
                async for listed in answer:
                    path, entry = next(expected)
                    self._on_bytes(len(listed))
                    length = chunk_count(entry.value) * DIGEST_BYTES
                    if len(listed) != length or content_digest(listed) != entry.digest:
                        raise StreamCorrupt("a chunk list does not match its digest")
                    manifest.chunks[path] = listed

    def _checked(self, path: bytes, digest: bytes, data: bytes) -> Node:
        if node_digest(data) != digest:
            raise StreamCorrupt("a node does not match its digest")
        node = decode(data)
        self._keep(path, data)
        return node

    def _graft(self, path: bytes, digest: bytes) -> bool:
        """Takes the whole subtree from the base where it has one with this digest."""
        if digest not in self._here or self._base is None:
            return False
        waiting = [(self._here[digest], path)]
        while waiting:
            known, wanted = waiting.pop()
            self._keep(wanted, self._base.nodes[known])
            for entry in self._base.node(known).entries:
                if entry.kind is Kind.DIRECTORY:
                    waiting.append((join(known, entry.name), join(wanted, entry.name)))
        return True

    def _keep(self, path: bytes, data: bytes) -> None:
        if len(self.found) >= NODES_MAX or len(path) > PATH_BYTES_MAX:
            raise StreamCorrupt("a tree is too large")
        self.found[path] = data


def _children(path: bytes, node: Node) -> list[tuple[bytes, bytes]]:
    return [
        (check_path(join(path, entry.name)), entry.digest)
        for entry in node.entries
        if entry.kind is Kind.DIRECTORY
    ]


def _by_digest(base: Manifest) -> dict[bytes, bytes]:
    return {node_digest(data): path for path, data in base.nodes.items()}


def _lists_by_digest(base: Manifest) -> dict[tuple[bytes, int], bytes]:
    return {
        (entry.digest, entry.value): base.chunks[path]
        for path, entry in base.leaders()
        if path in base.chunks
    }


def _check_links(manifest: Manifest) -> None:
    for path, entry in manifest.walk():
        if entry.kind is Kind.FILE and entry.text:
            leader = require_leader(manifest, entry.text)
            if entry.text.split(b"/") > path.split(b"/"):
                raise StreamCorrupt("the manifest is malformed: a hard link comes before its file")
            own = (entry.digest, entry.value, entry.metadata)
            if own != (leader.digest, leader.value, leader.metadata):
                raise StreamCorrupt("the manifest is malformed: a hard link differs from its file")


def _batches(paths: Sequence[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    length = 0
    for path in paths:
        if batch and (len(batch) == BATCH_PATHS_MAX or length > BATCH_PATH_BYTES_MAX):
            yield batch
            batch, length = [], 0
        batch.append(path)
        length += len(path)
    if batch:
        yield batch


async def exactly(stream: AsyncIterator[bytes], count: int) -> AsyncGenerator[bytes, None]:
    """The blocks of an answer, which is closed at the end.

    Raises StreamCorrupt where there are not `count`.
    """
    seen = 0
    try:
        async for block in stream:
            seen += 1
            if seen > count:
                break
            yield block
    finally:
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()
    if seen != count:
        raise StreamCorrupt(f"an answer has not {count} blocks")
