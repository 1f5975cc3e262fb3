"""A write that ends right before a sync is asked for is in the copy: a thousand times a backend.

ASKED_OF_DAEMONS of them are whole syncs, over HTTP, of copies on both servers. The others ask the
storage itself for what a sync takes first, the anchor; nothing after that looks at live data
again. What the anchor has is read as a sync would ship it: on zfs from the increment's stream, on
dir from the frozen tree.

All writes are of one size, into one place of one file, as often as the machine can: many of them
fall into one tick of the clock, and every second anchor is taken while they go on.
"""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import aclosing, closing
from pathlib import Path

import pytest

from tests.acceptance import trees
from tests.acceptance.cluster import Cluster
from tests.conftest import MakePool
from tests.pair import frozen, ignore
from transfer.model import Landing, Snapshot, Step, StepKind
from transfer.storage import open_storage
from transfer.storage.base import Storage
from transfer.storage.directory import DirectoryStorage

ASKED_OF_DAEMONS = 40
CHAINS = 24  # generations, one after the other: a long list of snapshots takes longer
ASKED_A_CHAIN = 40
TAG = "test"
POOL_BYTES = 512 << 20
WRITE_SECONDS = 0.001
WRITES_MAX = 10  # while one anchor is taken

_MARK = re.compile(rb"written:(\d{8})")


class Writer:
    """Numbers its writes; `latest` is that of the last one that has ended."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)
        self.latest = 0

    def write(self) -> None:
        os.pwrite(self._file.fileno(), b"written:%08d" % (self.latest + 1), 0)
        self.latest += 1

    def close(self) -> None:
        self._file.close()


@pytest.mark.timeout(600)
async def test_a_sync_takes_the_last_write(cluster: Cluster) -> None:
    trees.make(cluster.tree("last"), files=5, big_bytes=1000)
    async with cluster.api() as api:
        source = await api.create(cluster.tree("last"))
        copies = [(await api.copy(source, daemon.server_id))[0] for daemon in cluster.daemons]
        with closing(Writer(Path(await api.rootfs(source), "srv/last"))) as writer:
            for number in range(ASKED_OF_DAEMONS):
                copy = copies[number % len(copies)]
                writer.write()
                await api.sync(copy)
                arrived = Path(await api.rootfs(copy), "srv/last").read_bytes()
                assert arrived == b"written:%08d" % writer.latest


@pytest.mark.timeout(600)
async def test_an_anchor_has_the_last_write(storage: Storage) -> None:
    first = next((await storage.forest()).snapshots())

    for chain in range(CHAINS):
        path = f"containers/c1/g{chain}"
        await storage.clone(first.guid, path)
        await storage.mount(path)
        await _ask_and_ask(storage, path, f"{chain:04x}")


async def _ask_and_ask(storage: Storage, path: str, mark: str) -> None:
    """Asks for one anchor after the other. Every fourth is taken while writes go on, and the one
    after it with no write since the last of those, which came early or late in the first."""
    before = await storage.snapshot(path, f"h-{mark}{0:020x}", TAG)
    has = 0
    with closing(Writer(Path(storage.rootfs(path), "last"))) as writer:
        for number in range(1, ASKED_A_CHAIN + 1):
            if number % 4 != 2:
                writer.write()
            ended = writer.latest
            taking = asyncio.create_task(storage.snapshot(path, f"h-{mark}{number:020x}", TAG))
            more = number // 4 % WRITES_MAX + 1 if number % 4 == 1 else 0
            while more and not taking.done():
                writer.write()
                more -= 1
                await asyncio.sleep(WRITE_SECONDS)
            anchor = await taking
            if anchor.guid != before.guid:
                has, before = await _newest(storage, before, anchor), anchor
            assert has >= ended, f"anchor {number}"


async def _newest(storage: Storage, before: Snapshot, anchor: Snapshot) -> int:
    """The number of the write that a copy of the anchor would have."""
    if isinstance(storage, DirectoryStorage):
        content = (frozen(storage, anchor) / "last").read_bytes()
    else:
        kind = StepKind.INCREMENTAL
        step = Step(kind, anchor.dataset, anchor.guid, anchor.name, before.guid, Landing.NEW)
        async with aclosing(storage.send(step)) as blocks:
            content = b"".join([block async for block in blocks])
    (found,) = _MARK.findall(content)
    return int(found)


@pytest.fixture
async def storage(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> Storage:
    """A storage with one mirror, of an empty tree."""
    for name in ("tree", "root", "mounts", "locks"):
        (tmp_path / name).mkdir()
    root = str(tmp_path / "root")
    if backend == "zfs":
        make_pool: MakePool = request.getfixturevalue("zfs_pool")
        root = make_pool("hoody-last", POOL_BYTES)
    storage = await open_storage(backend, root, str(tmp_path / "mounts"), str(tmp_path / "locks"))
    await storage.take_in(str(tmp_path / "tree"), "mirrors/m1", "h-first", ignore)
    return storage
