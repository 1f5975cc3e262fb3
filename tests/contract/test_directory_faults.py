"""Content diff with a source that lies, is cut, or is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from tests.pair import LIVE, MIRROR, Counting, Pair, ignore, make_pair, open_at, step
from tests.trees import listing
from transfer.errors import (
    SnapshotMissing,
    StorageError,
    StreamCorrupt,
)
from transfer.model import Guid, Landing, Step, StepKind
from transfer.tree.chunk import CHUNK_BYTES, digest
from transfer.tree.node import Entry, Kind, Metadata, Node, encode, node_digest
from transfer.tree.source import TreeSource


@pytest.fixture
async def pair(tmp_path: Path) -> Pair:
    return await make_pair(tmp_path)


class Bent(Counting):
    """A source that answers wrongly: `bend` changes each block of the method `method`."""

    def __init__(
        self, source: TreeSource, method: str, bend: Callable[[bytes], Sequence[bytes]]
    ) -> None:
        super().__init__(source)
        self._method = method
        self._bend = bend

    async def _bent(self, method: str, blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for block in blocks:
            for bent in self._bend(block) if method == self._method else [block]:
                yield bent

    def tree_nodes(self, guid: Guid, paths: Sequence[bytes]) -> AsyncIterator[bytes]:
        return self._bent("tree_nodes", super().tree_nodes(guid, paths))

    def tree_chunk_lists(self, guid: Guid, paths: Sequence[bytes]) -> AsyncIterator[bytes]:
        return self._bent("tree_chunk_lists", super().tree_chunk_lists(guid, paths))

    def tree_chunks(
        self, guid: Guid, wants: Sequence[tuple[bytes, int, int]]
    ) -> AsyncIterator[bytes]:
        return self._bent("tree_chunks", super().tree_chunks(guid, wants))


def flip(block: bytes) -> list[bytes]:
    return [bytes([block[0] ^ 1]) + block[1:]]


BENDS: dict[str, Callable[[bytes], Sequence[bytes]]] = {
    "flipped": flip,
    "flipped at its end": lambda block: [block[:-1] + bytes([block[-1] ^ 1])],
    "dropped": lambda block: [],
    "doubled": lambda block: [block, block],
    "empty": lambda block: [b""],
    "cut": lambda block: [block[:-1]],
}


@pytest.mark.parametrize("method", ["tree_nodes", "tree_chunk_lists", "tree_chunks"])
@pytest.mark.parametrize("bend", BENDS)
async def test_a_wrong_answer_is_refused_and_the_next_attempt_succeeds(
    pair: Pair, method: str, bend: str
) -> None:
    wanted = await pair.snapshot()
    with pytest.raises(StreamCorrupt):
        await pair.target.apply(
            step(wanted, None), MIRROR, Bent(pair.source, method, BENDS[bend]), ignore
        )
    assert (await pair.target.forest()).find(wanted.guid) is None
    assert (await pair.target.inspect([MIRROR])).datasets[MIRROR].partial
    await pair.apply(wanted)


async def test_a_node_with_another_name_in_it_is_refused(pair: Pair) -> None:
    def bend(block: bytes) -> list[bytes]:
        return [block.replace(b"shadow", b"shadoy")]

    wanted = await pair.snapshot()
    with pytest.raises(StreamCorrupt):
        await pair.target.apply(
            step(wanted, None), MIRROR, Bent(pair.source, "tree_nodes", bend), ignore
        )


class Forged:
    """A source whose tree is made up: nodes by path, bottom up."""

    def __init__(self, nodes: dict[bytes, Node], content: bytes = b"evil") -> None:
        self._content = content
        self._nodes = {path: encode(node) for path, node in nodes.items()}

    async def tree_root(self, guid: Guid) -> bytes:
        return node_digest(self._nodes[b""])

    async def tree_nodes(self, guid: Guid, paths: Sequence[bytes]) -> AsyncIterator[bytes]:
        for path in paths:
            yield self._nodes[path]

    async def tree_chunk_lists(self, guid: Guid, paths: Sequence[bytes]) -> AsyncIterator[bytes]:
        for _ in paths:
            yield b""

    async def tree_chunks(
        self, guid: Guid, wants: Sequence[tuple[bytes, int, int]]
    ) -> AsyncIterator[bytes]:
        for _ in wants:
            yield self._content


META = Metadata(0o755, 0, 0, 0)
EVIL = digest(b"evil")


def evil_trees(outside: Path) -> dict[str, dict[bytes, Node]]:
    target = os.fsencode(outside)
    inner = Node(META, (Entry(b"victim", Kind.FILE, EVIL, META, 4),))
    through = Entry(b"door", Kind.SYMLINK, metadata=META, text=target)
    child = Entry(b"door", Kind.DIRECTORY, node_digest(encode(inner)))

    def link(to: bytes) -> dict[bytes, Node]:
        entry = Entry(b"z", Kind.FILE, EVIL, META, 4, to)
        return {b"": Node(META, (through, entry))}

    return {
        "symlink and directory of one name": {
            b"": Node(META, (through, child)),
            b"door": inner,
        },
        "dot dot": {b"": Node(META, (Entry(b"..", Kind.FILE, EVIL, META, 4),))},
        "slash": {b"": Node(META, (through, Entry(b"door/victim", Kind.FILE, EVIL, META, 4)))},
        "absolute": {b"": Node(META, (Entry(target + b"/x", Kind.FILE, EVIL, META, 4),))},
        "hard link through a symlink": link(b"door/victim"),
        "hard link to a symlink": link(b"door"),
        "hard link upwards": link(b"../victim"),
        "hard link to nothing": link(b"nothing"),
        "hard link to itself": link(b"z"),
    }


@pytest.mark.parametrize("case", evil_trees(Path("/")))
async def test_no_manifest_can_reach_outside(tmp_path: Path, case: str) -> None:
    target = await open_at(tmp_path / "target")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_bytes(b"good")
    before = listing(outside)
    wanted = Step(StepKind.CONTENT, LIVE, "1", "h-1", None, Landing.NEW)
    with pytest.raises(StreamCorrupt):
        await target.apply(wanted, MIRROR, Forged(evil_trees(outside)[case]), ignore)
    assert listing(outside) == before
    assert (await target.forest()).find("1") is None


async def test_a_hard_link_that_comes_before_its_file_is_refused(tmp_path: Path) -> None:
    target = await open_at(tmp_path / "target")
    entries = (
        Entry(b"a", Kind.FILE, EVIL, META, 4, b"b"),
        Entry(b"b", Kind.FILE, EVIL, META, 4),
    )
    wanted = Step(StepKind.CONTENT, LIVE, "1", "h-1", None, Landing.NEW)
    with pytest.raises(StreamCorrupt):
        await target.apply(wanted, MIRROR, Forged({b"": Node(META, entries)}), ignore)


async def test_asking_for_what_is_not_there_is_refused(pair: Pair) -> None:
    guid = (await pair.snapshot()).guid
    asks: list[tuple[type[Exception], AsyncIterator[bytes]]] = [
        (SnapshotMissing, pair.source.tree_nodes("1", [b""])),
        (SnapshotMissing, pair.source.tree_nodes(guid, [b"file"])),
        (SnapshotMissing, pair.source.tree_nodes(guid, [b"../.."])),
        (SnapshotMissing, pair.source.tree_chunk_lists(guid, [b"etc"])),
        (SnapshotMissing, pair.source.tree_chunks(guid, [(b"link", 0, 1)])),
        (SnapshotMissing, pair.source.tree_chunks(guid, [(b"/etc/passwd", 0, 1)])),
        (StorageError, pair.source.tree_chunks(guid, [(b"file", 0, 2)])),
        (StorageError, pair.source.tree_chunks(guid, [(b"file", -1, 1)])),
        (StorageError, pair.source.tree_chunks(guid, [(b"file", 0, 1 << 60)])),
        (StorageError, pair.source.tree_chunks(guid, [(b"file", 0, 1)] * 100_001)),
    ]
    for error, blocks in asks:
        with pytest.raises(error):
            async for _ in blocks:
                pass


KILLED = """
import asyncio, os, signal, sys
from tests.pair import Counting, ignore, open_at, step
from pathlib import Path

async def main(top, after):
    source, target = await open_at(Path(top, "source")), await open_at(Path(top, "target"))
    wanted = (await source.inspect(["containers/c1/g1"])).datasets["containers/c1/g1"].head
    seen = 0

    def count(block_bytes):
        nonlocal seen
        seen += block_bytes
        if seen >= after:
            os.kill(os.getpid(), signal.SIGKILL)

    await target.apply(step(wanted, None), "mirrors/m1", source, count)

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


async def test_what_a_killed_attempt_fetched_is_not_fetched_again(
    pair: Pair, tmp_path: Path
) -> None:
    for number in range(40):
        (pair.live / f"piece-{number}").write_bytes(os.urandom(8 * CHUNK_BYTES))
    wanted = await pair.snapshot()
    after = 30 * 8 * CHUNK_BYTES
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), str(after)], check=False, timeout=60
    )
    assert killed.returncode == -signal.SIGKILL
    staged = list((tmp_path / "target").rglob("staged/*"))
    staged[0].write_bytes(os.urandom(8 * CHUNK_BYTES))  # as after a power failure
    await pair.apply(wanted)
    fetched = sum(name.startswith(b"piece") for name in pair.asked.chunks)
    assert 10 * 8 <= fetched <= 10 * 8 + 8 + 32 + 8
    assert not list((tmp_path / "target").rglob("staged"))
