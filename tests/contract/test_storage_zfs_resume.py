"""Streams that are cut and gone on with: by a token where ZFS keeps what came, else from the start.

The same test code on zfs-fuse, which keeps nothing, and on OpenZFS.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.kernel_zfs import KERNEL
from tests.zfs_servers import TAG, Servers, full_step, increment, mirror, open_servers
from transfer.errors import PeerUnreachable, SourceChanged
from transfer.model import Step

pytestmark = pytest.mark.zfs

CUTS = 10
STREAM_BYTES = (64 if KERNEL else 11) << 20
TWICE_MAX = 0.1  # of the stream: what of its last block was not given to ZFS is lost each time
MORE_BYTES = 4 << 20
CUT_BYTES = MORE_BYTES * 3 // 4


@pytest.fixture
async def servers(zfs_pool: Callable[..., str], tmp_path: Path) -> Servers:
    return await open_servers(zfs_pool, tmp_path)


class Line:
    """Between two servers; it counts, and is cut after so many bytes."""

    def __init__(self, cut_bytes: int | None = None) -> None:
        self.cut_bytes = cut_bytes
        self.passed_bytes = 0

    async def carry(self, blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for block in blocks:
            self.passed_bytes += len(block)
            yield block
            if self.cut_bytes is not None and self.passed_bytes >= self.cut_bytes:
                raise PeerUnreachable("cut")


async def ship(servers: Servers, step: Step, path: str, line: Line) -> None:
    """One attempt, which goes on where the one before was cut."""
    resumed = await servers.target.resume_point(step, path) or step
    async with (
        contextlib.aclosing(servers.source.send(resumed)) as blocks,
        contextlib.aclosing(line.carry(blocks)) as carried,
    ):
        await servers.target.receive(resumed, path, carried)


async def cut(servers: Servers, step: Step, path: str, after_bytes: int) -> Line:
    line = Line(after_bytes)
    with pytest.raises(PeerUnreachable, match="cut"):
        await ship(servers, step, path, line)
    return line


async def test_a_stream_that_is_cut_ten_times(servers: Servers) -> None:
    servers.write("first", STREAM_BYTES)
    step, path = full_step(await servers.snapshot()), mirror()
    passed_bytes = 0
    for _ in range(CUTS):
        passed_bytes += (await cut(servers, step, path, STREAM_BYTES // (CUTS + 1))).passed_bytes
        there = (await servers.target.inspect([path])).datasets.get(path)
        assert (there is not None and there.partial and there.token is not None) == KERNEL
    last = Line()
    await ship(servers, step, path, last)
    assert await servers.names(path) == {"first"}
    there = (await servers.target.inspect([path])).datasets[path]
    assert (there.partial, there.token) == (False, None)
    if KERNEL:
        assert passed_bytes + last.passed_bytes < (1 + TWICE_MAX) * STREAM_BYTES
    else:
        assert last.passed_bytes > STREAM_BYTES


async def test_an_increment_that_is_cut(servers: Servers) -> None:
    """Until it is gone on with, the mirror is as it was."""
    first, path = await servers.full()
    servers.write("second", MORE_BYTES)
    step = increment(first, await servers.snapshot(), path)
    await cut(servers, step, path, CUT_BYTES)
    there = (await servers.target.inspect([path])).datasets[path]
    assert (there.head and there.head.guid, there.partial) == (first.guid, False)
    last = Line()
    await ship(servers, step, path, last)
    assert await servers.names(path) == {"first", "second"}
    assert (last.passed_bytes < CUT_BYTES) == KERNEL


async def test_what_another_step_has_begun_is_discarded(servers: Servers) -> None:
    servers.write("first", MORE_BYTES)
    first, path = await servers.snapshot(), mirror()
    servers.write("second")
    second = await servers.snapshot()
    await cut(servers, full_step(first), path, CUT_BYTES)
    assert await servers.target.resume_point(full_step(second), path) is None
    assert not (await servers.target.inspect([path])).datasets
    await ship(servers, full_step(second), path, Line())
    assert await servers.names(path) == {"first", "second"}


async def test_what_the_source_has_let_go_of_is_not_gone_on_with(servers: Servers) -> None:
    servers.write("first", MORE_BYTES)
    first, path = await servers.snapshot(), mirror()
    step = full_step(first)
    await cut(servers, step, path, CUT_BYTES)
    resumed = await servers.target.resume_point(step, path)
    assert (resumed is not None and resumed.token is not None) == KERNEL
    await servers.source.release([first.guid], TAG)
    await servers.source.destroy_snapshot(servers.path, first.guid)
    with pytest.raises(SourceChanged):
        await anext(servers.source.send(resumed or step))
    await servers.target.discard(path)
    assert not (await servers.target.inspect([path])).datasets


async def test_a_trim_lets_go_of_what_was_begun(servers: Servers) -> None:
    """So that another increment finds the mirror as it was."""
    first, path = await servers.full()
    servers.write("second", MORE_BYTES)
    await cut(servers, increment(first, await servers.snapshot(), path), path, CUT_BYTES)
    await servers.target.trim(path)
    there = (await servers.target.inspect([path])).datasets[path]
    assert (there.token, there.head and there.head.guid) == (None, first.guid)


async def test_a_first_stream_that_was_cut_can_be_destroyed(servers: Servers) -> None:
    servers.write("first", MORE_BYTES)
    path = mirror()
    await cut(servers, full_step(await servers.snapshot()), path, CUT_BYTES)
    await servers.target.destroy(path)
    assert not (await servers.target.inspect([path])).datasets
