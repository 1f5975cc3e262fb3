"""What content diff asks of the side that has the tree."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

OnBytes = Callable[[int], None]


class TreeSource(Protocol):
    """What content diff asks of the side that has the tree. Paths are relative, `b""` the root."""

    async def tree_root(self, guid: str) -> bytes:
        """The digest (16 bytes, xxh3-128) of the snapshot's Merkle manifest, and nothing else."""
        ...

    def tree_nodes(self, guid: str, paths: Sequence[bytes]) -> AsyncIterator[bytes]:
        """The manifest's directory nodes of these paths, each as one block, in this order."""
        ...

    def tree_chunk_lists(self, guid: str, paths: Sequence[bytes]) -> AsyncIterator[bytes]:
        """The chunk digests (16 bytes each) of these files, one block a file, in this order."""
        ...

    def tree_chunks(
        self, guid: str, wants: Sequence[tuple[bytes, int, int]]
    ) -> AsyncIterator[bytes]:
        """The content of `(path, first chunk, number of chunks)`: one block a chunk, in order."""
        ...
