"""Two dir storages, and a source that counts what is asked of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from tests.trees import listing, make_tree
from transfer.model import Guid, Landing, Snapshot, Step, StepKind
from transfer.storage.directory import DirectoryStorage
from transfer.tree.source import TreeSource

LIVE = "containers/c1/g1"
MIRROR = "mirrors/m1"


class Counting:
    """A source that counts what is asked of it."""

    def __init__(self, source: TreeSource) -> None:
        self.source = source
        self.bytes = 0
        self.nodes = 0
        self.chunks: list[bytes] = []

    async def tree_root(self, guid: Guid) -> bytes:
        self.bytes += 16
        return await self.source.tree_root(guid)

    async def tree_nodes(self, guid: Guid, paths: Sequence[bytes]) -> AsyncIterator[bytes]:
        self.nodes += len(paths)
        async for data in self.source.tree_nodes(guid, paths):
            self.bytes += len(data)
            yield data

    async def tree_chunk_lists(self, guid: Guid, paths: Sequence[bytes]) -> AsyncIterator[bytes]:
        async for data in self.source.tree_chunk_lists(guid, paths):
            self.bytes += len(data)
            yield data

    async def tree_chunks(
        self, guid: Guid, wants: Sequence[tuple[bytes, int, int]]
    ) -> AsyncIterator[bytes]:
        self.chunks += [path for path, _, count in wants for _ in range(count)]
        async for data in self.source.tree_chunks(guid, wants):
            self.bytes += len(data)
            yield data


class Pair:
    """Two storages; `source` has a live generation, made of a tree that was taken in."""

    def __init__(self, source: DirectoryStorage, target: DirectoryStorage, live: Path) -> None:
        self.source = source
        self.target = target
        self.live = live
        self.asked = Counting(source)
        self._number = 100

    async def snapshot(self) -> Snapshot:
        self._number += 1
        return await self.source.snapshot(LIVE, f"h-{self._number}", "test")

    async def apply(self, wanted: Snapshot, base: Snapshot | None = None) -> Path:
        """Ships a snapshot; checks that its tree is the source's; returns the target's."""
        self.asked = Counting(self.source)
        counted: list[int] = []
        found = await self.target.apply(step(wanted, base), MIRROR, self.asked, counted.append)
        assert found.guid == wanted.guid
        assert sum(counted) == self.asked.bytes - 16
        tree = frozen(self.target, found)
        assert listing(tree) == listing(frozen(self.source, wanted))
        return tree


def step(wanted: Snapshot, base: Snapshot | None) -> Step:
    """The content step that ships a snapshot into the target's mirror."""
    landing = Landing.NEW if base is None else Landing.EXTEND
    into = None if base is None else MIRROR
    known = None if base is None else base.guid
    return Step(StepKind.CONTENT, LIVE, wanted.guid, wanted.name, known, landing, into)


def frozen(storage: DirectoryStorage, snapshot: Snapshot) -> Path:
    """The snapshot's immutable tree."""
    located = storage._layout.require(snapshot.guid)
    return Path(located.tree)


async def open_at(directory: Path) -> DirectoryStorage:
    """A storage with its own mount root and locks below the directory."""
    for name in ("root", "mount", "lock"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    return await DirectoryStorage.open(
        str(directory / "root"), str(directory / "mount"), str(directory / "lock")
    )


async def make_pair(tmp_path: Path) -> Pair:
    """Two storages below the path, and a live tree with everything in it."""
    make_tree(tmp_path / "tree")
    source, target = await open_at(tmp_path / "source"), await open_at(tmp_path / "target")
    taken = await source.take_in(str(tmp_path / "tree"), "mirrors/first", "h-1", ignore)
    await source.clone(taken.guid, LIVE)
    return Pair(source, target, Path(await source.mount(LIVE)))


def ignore(count: int) -> None:
    """Nobody counts."""
