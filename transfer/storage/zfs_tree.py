"""What a ZFS storage answers where content diff is asked of it: it has native streams only."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import NoReturn

from transfer.errors import CannotExpress
from transfer.model import Guid, Snapshot, Step
from transfer.storage.base import OnBytes, TreeSource


class ZfsTree:
    """The content-diff half of `Storage`, refused: CannotExpress from every method."""

    async def tree_root(self, guid: Guid) -> bytes:
        _refuse()

    def tree_nodes(self, guid: Guid, paths: Sequence[bytes]) -> AsyncGenerator[bytes, None]:
        _refuse()

    def tree_chunk_lists(self, guid: Guid, paths: Sequence[bytes]) -> AsyncGenerator[bytes, None]:
        _refuse()

    def tree_chunks(
        self, guid: Guid, wants: Sequence[tuple[bytes, int, int]]
    ) -> AsyncGenerator[bytes, None]:
        _refuse()

    async def apply(self, step: Step, path: str, source: TreeSource, on_bytes: OnBytes) -> Snapshot:
        _refuse()


def _refuse() -> NoReturn:
    raise CannotExpress("a ZFS storage replicates by native streams only")
