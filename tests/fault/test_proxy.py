"""Two daemons and between them a line that cuts, stalls, trickles or flips a bit: a's
`peer.advertise` is the near end of a proxy, its far end is a's exporter."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from tests.acceptance import trees
from tests.acceptance.cluster import Cluster, Settings
from tests.fault.disturbing import assert_clean, assert_same, stale_copy, trouble
from tests.ports import free_port

CONTENT_BYTES = 2 << 20
SIZES = (CONTENT_BYTES, CONTENT_BYTES)  # of a first copy, and of what is written then
FAULT_BYTES = 1 << 20  # of what a sends on one connection, before the fault
TRICKLE_BYTES = 32 << 10  # a time
TRICKLE_SECONDS = 0.1

PATIENCE: Settings = {"transfer": {"stall_seconds": 3, "collect_grace_seconds": 0}}


class DetouredCluster(Cluster):
    """Two servers; the way to the first leads over a port of the test's."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, "dir", 2, settings=PATIENCE)
        self.detour_port = free_port()

    def _settings_of(self, name: str) -> Settings:
        settings = super()._settings_of(name)
        if name != "a":
            return settings
        peer = {**settings["peer"], "advertise": f"127.0.0.1:{self.detour_port}"}
        return {**settings, "peer": peer}


class Line:
    """The proxy. `fault` is what becomes of each connection after FAULT_BYTES from a: `cut`,
    `stall` for ever, `flip` of one bit; or all of it is a `trickle`; or nothing happens."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.fault = ""
        self.passed_bytes = 0
        self._address = address
        self._tasks: set[asyncio.Task[None]] = set()

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, both ways, until one of them ends."""
        there, back = await asyncio.open_connection(*self._address)
        ways = [asyncio.create_task(way) for way in (copy(reader, back), self._come(there, writer))]
        self._tasks.update(ways)
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            for end in (back, writer):
                end.close()
            await asyncio.gather(*ways, return_exceptions=True)
            self._tasks.difference_update(ways)

    def hang_up(self) -> None:
        """Ends all connections."""
        for task in self._tasks:
            task.cancel()

    async def _come(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What a sends."""
        come_bytes = 0
        with suppress(ConnectionError):
            while data := await there.read(TRICKLE_BYTES):
                if come_bytes <= FAULT_BYTES < come_bytes + len(data):
                    if self.fault == "cut":
                        return
                    if self.fault == "stall":
                        await asyncio.Event().wait()
                    if self.fault == "flip":
                        data = bytes([data[0] ^ 1]) + data[1:]
                if self.fault == "trickle":
                    await asyncio.sleep(TRICKLE_SECONDS)
                come_bytes += len(data)
                self.passed_bytes += len(data)
                writer.write(data)
                await writer.drain()


async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """All that comes."""
    with suppress(ConnectionError):
        while data := await source.read(TRICKLE_BYTES):
            target.write(data)
            await target.drain()


@pytest.fixture(scope="module")
def cluster() -> Iterator[DetouredCluster]:
    """On the dir backend: what the line does is the same for both."""
    with (
        tempfile.TemporaryDirectory(prefix="hoody-") as name,
        DetouredCluster(Path(name)) as cluster,
    ):
        yield cluster


@asynccontextmanager
async def detour(cluster: DetouredCluster) -> AsyncIterator[Line]:
    """The line, for as long as the body runs."""
    line = Line(cluster.daemons[0].peer_address)
    listener = await asyncio.start_server(line.relay, "127.0.0.1", cluster.detour_port)
    try:
        yield line
    finally:
        listener.close()
        line.hang_up()
        await listener.wait_closed()


@pytest.mark.parametrize(
    ("fault", "codes"),
    [
        ("cut", {"PEER_UNREACHABLE"}),
        ("stall", {"TRANSFER_STALLED"}),
        ("flip", {"PEER_UNREACHABLE", "STREAM_CORRUPT", "TRANSFER_STALLED"}),
    ],
)
async def test_a_line_with_a_fault(cluster: DetouredCluster, fault: str, codes: set[str]) -> None:
    """The copy is as it was for as long as that lasts, and the job ends right once it is over."""
    async with cluster.api() as api, detour(cluster) as line:
        source, copy_id = await stale_copy(cluster, api, fault, *SIZES)
        storage, tree = await api.storage(copy_id), trees.walk(await api.rootfs(copy_id))
        line.fault = fault
        sync = await api.start_sync(copy_id)
        assert await trouble(api, sync.job_id) in codes
        assert (await api.storage(copy_id))["generation"] == storage["generation"]
        assert trees.walk(await api.rootfs(copy_id)) == tree
        line.fault = ""
        assert (await api.done(sync.job_id))["attempt"] > 1
        await assert_same(api, cluster, source, copy_id)


async def test_a_line_that_trickles(cluster: DetouredCluster) -> None:
    """Slow is no fault: the first attempt gets there, though it takes longer than a stall may."""
    async with cluster.api() as api, detour(cluster) as line:
        source, copy_id = await stale_copy(cluster, api, "trickle", *SIZES)
        line.fault, before = "trickle", line.passed_bytes
        job = await api.sync(copy_id)
        assert (job["attempt"], job["error"]) == (1, None)
        assert line.passed_bytes - before > CONTENT_BYTES
        await assert_same(api, cluster, source, copy_id)


async def test_no_line_at_all(cluster: DetouredCluster) -> None:
    """Nobody answers where the source should be."""
    async with cluster.api() as api:
        async with detour(cluster):
            source, copy_id = await stale_copy(cluster, api, "none", *SIZES)
        sync = await api.start_sync(copy_id)
        assert await trouble(api, sync.job_id) == "PEER_UNREACHABLE"
        async with detour(cluster):
            await api.done(sync.job_id)
            await assert_same(api, cluster, source, copy_id)
            await assert_clean(cluster)
