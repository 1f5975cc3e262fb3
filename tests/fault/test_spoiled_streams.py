"""A peer whose frames are spoilt on their way to the channel: STREAM_CORRUPT, again and again for
as long as that lasts; what is live stays as it is, and the job that tries again ends right."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.acceptance import trees
from tests.acceptance.cluster import Cluster
from tests.fault.disturbing import assert_clean, assert_same, source_on_a, stale_copy, trouble
from tests.fault.spoiling import FAULTS, ORDER, Stage
from transfer.errors import StreamCorrupt
from transfer.frames import FrameReader, FrameType, FrameWriter
from transfer.storage.private_zfs import PrivateZfs

CONTENT_BYTES = 1 << 20


class SpoilingCluster(Cluster):
    """A cluster whose daemons are `spoiling.py`."""

    program = "tests.fault.spoiling"

    @property
    def order(self) -> Path:
        """The file that names the fault."""
        return self.directory / ORDER


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest, backend: str) -> Iterator[SpoilingCluster]:
    zfs: PrivateZfs | None = request.getfixturevalue("zfs_daemon") if backend == "zfs" else None
    with (
        tempfile.TemporaryDirectory(prefix="hoody-") as name,
        SpoilingCluster(Path(name), backend, 2, zfs=zfs) as cluster,
    ):
        yield cluster


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_spoilt_sync(cluster: SpoilingCluster, fault: str) -> None:
    async with cluster.api() as api:
        sizes = (CONTENT_BYTES, CONTENT_BYTES)
        source, copy = await stale_copy(cluster, api, f"sync-{fault}", *sizes)
        storage, tree = await api.storage(copy), trees.walk(await api.rootfs(copy))

        cluster.order.write_text(fault)
        try:
            sync = await api.start_sync(copy)
            assert await trouble(api, sync.job_id) == "STREAM_CORRUPT"
            assert (await api.storage(copy))["generation"] == storage["generation"]
            assert trees.walk(await api.rootfs(copy)) == tree
        finally:
            cluster.order.unlink()
        assert (await api.done(sync.job_id))["attempt"] > 1
        await assert_same(api, cluster, source, copy)


async def test_a_spoilt_first_copy(cluster: SpoilingCluster) -> None:
    """Nothing of it is ever live."""
    async with cluster.api() as api:
        source = await source_on_a(cluster, "copy", CONTENT_BYTES)
        cluster.order.write_text("flip")
        try:
            started = await api.start_copy(source, cluster.daemons[1].server_id)
            assert await trouble(api, started.job_id) == "STREAM_CORRUPT"
            copy = await api.container(started.container_id)
            assert copy["status"] == "copying"
        finally:
            cluster.order.unlink()
        await api.done(started.job_id)
        await assert_same(api, cluster, source, started.container_id)


async def test_nothing_is_left(cluster: SpoilingCluster) -> None:
    await assert_clean(cluster)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_stage_spoils_frames(fault: str, tmp_path: Path) -> None:
    """What it lets through is no stream for a reader, though each piece was a good frame."""
    writer, order = FrameWriter(), tmp_path / ORDER
    content = Random(1).randbytes(CONTENT_BYTES)
    frames = [writer.frame(FrameType.DATA, content) for _ in range(2)]
    frames.append(writer.frame(FrameType.TRAILER))
    untouched, wire = Stage(order), b"".join(frames)
    pieces = (wire[at : at + 7777] for at in range(0, len(wire), 7777))
    assert [frame for piece in pieces for frame in untouched.feed(piece)] == frames
    order.write_text(fault)
    stage, reader = Stage(order), FrameReader()
    spoilt = b"".join(piece for frame in frames for piece in stage.passes(frame))
    if fault == "cut":
        kinds = [frame.type for frame in reader.feed(spoilt)]
        assert kinds == [FrameType.DATA, FrameType.DATA]
    else:
        with pytest.raises(StreamCorrupt):
            reader.feed(spoilt)
