"""Native streams between two pools: where they land, and what only ZFS does."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.kernel_zfs import KERNEL
from tests.zfs_servers import (
    Servers,
    full_step,
    increment,
    mirror,
    new_id,
    new_name,
    open_servers,
)
from transfer import command
from transfer.errors import (
    CannotExpress,
    DatasetBusy,
    SourceChanged,
)
from transfer.model import Landing, Step
from transfer.storage.base import Source
from transfer.storage.zfs_command import Zfs
from transfer.storage.zfs_send import ZfsSender

pytestmark = pytest.mark.zfs


@pytest.fixture
async def servers(zfs_pool: Callable[..., str], tmp_path: Path) -> Servers:
    return await open_servers(zfs_pool, tmp_path)


async def test_full_and_incremental(servers: Servers) -> None:
    first, path = await servers.full()
    servers.write("second", 1 << 20)
    second = await servers.snapshot()
    for _ in range(2):
        arrived = await servers.ship(increment(first, second, path), path)
        assert arrived.guid == second.guid
    assert await servers.names(path) == {"first", "second"}
    dataset = (await servers.target.inspect([path])).datasets[path]
    assert [one.guid for one in dataset.snapshots] == [first.guid, second.guid]
    assert not dataset.head_differs
    estimate = await servers.source.size(increment(first, second))
    assert 1 << 20 <= estimate < 2 << 20


async def test_what_a_promote_moves_as_it_is_sent_is_planned_afresh(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = await servers.full()
    names, zfs, taker = ZfsSender._names, Zfs("one"), f"one/{mirror()}"

    async def sent() -> int:
        async with contextlib.aclosing(servers.source.send(full_step(first))) as blocks:
            return sum([len(block) async for block in blocks])

    async def moved(self: ZfsSender, step: Step) -> tuple[str | None, str]:
        base, name = await names(self, step)
        await zfs.do("clone", "-p", name, taker)
        await zfs.do("promote", taker)
        await servers.source.unmount(servers.path)
        await servers.source.destroy(servers.path)
        return base, name

    whole = await sent()
    monkeypatch.setattr(ZfsSender, "_names", moved)
    with pytest.raises(SourceChanged, match="does not exist"):
        await sent()
    monkeypatch.undo()
    assert await sent() == whole


async def test_a_received_mirror_is_never_mounted_nor_writable(servers: Servers) -> None:
    _, path = await servers.full()
    zfs = Zfs("two")
    rows = await zfs.properties([f"two/{path}"], ["mountpoint", "readonly", "mounted", "canmount"])
    # zfs-fuse has no option of receive for it.
    assert rows[f"two/{path}"] == {
        "mountpoint": "none",
        "readonly": "on",
        "mounted": "no",
        "canmount": "noauto" if KERNEL else "on",
    }


async def test_a_clone_goes_from_its_direct_origin(servers: Servers) -> None:
    first, path = await servers.full(4 << 20)
    copy = await servers.clone(first)
    servers.write("of the clone", path=copy)
    cloned = await servers.snapshot(copy)
    servers.write("later")
    later = await servers.snapshot()
    # The base lies behind the mirror's head by then, and receive finds it all the same.
    await servers.ship(increment(first, later, path), path)
    landed = mirror()
    step = increment(first, cloned)
    async with contextlib.aclosing(servers.source.send(step)) as blocks:
        stream_bytes = sum([len(block) async for block in blocks])
    assert stream_bytes < 64 << 10
    await servers.ship(step, landed)
    assert await servers.names(landed) == {"first", "of the clone"}
    assert (await servers.target.inspect([landed])).datasets[landed].origin == first.guid


async def test_a_base_behind_the_head_becomes_a_branch(servers: Servers) -> None:
    first, path = await servers.full()
    snapshots = []
    for name in ("second", "third"):
        servers.write(name)
        snapshots.append(await servers.snapshot())
    second, third = snapshots
    await servers.ship(increment(first, second, path), path)
    branch = mirror()
    step = replace(increment(first, third), landing=Landing.BRANCH)
    mark, zfs = "hoody:branch-of", Zfs("two")
    for _ in range(2):
        await servers.ship(step, branch)
        kept = await zfs.properties([zfs.name(branch)], [mark])
        assert kept[zfs.name(branch)][mark] == "-"
        if not KERNEL:  # as a receiver leaves it that was killed at its end
            await zfs.do("set", f"{mark}={path}", zfs.name(branch))
    assert await servers.names(branch) == {"first", "second", "third"}
    assert await servers.names(path) == {"first", "second"}
    forest = await servers.target.forest()
    assert [one.guid for one in forest.lineage(third.guid)] == [third.guid, first.guid]
    assert [one.guid for one in forest.lineage(second.guid)] == [second.guid, first.guid]


async def test_a_head_that_differs_is_trimmed_before_it_is_extended(servers: Servers) -> None:
    first, path = await servers.full()
    zfs, name, directory = Zfs("two"), f"two/{path}", servers.target.rootfs(path)
    for setting in ("readonly=off", f"mountpoint={directory}"):
        await zfs.do("set", setting, name)
    Path(await servers.target.mount(path), "stray").write_text("stray")
    await servers.target.unmount(path)
    for key in ("readonly", "mountpoint", "hoody:head"):
        await zfs.do("inherit", key, name)
    servers.write("second")
    await servers.ship(increment(first, await servers.snapshot(), path), path)
    assert await servers.names(path) == {"first", "second"}


async def test_a_lineage_that_was_seen_costs_one_command(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However deep it is."""
    path, points = servers.path, [await servers.snapshot()]
    for depth in range(6):
        path = await servers.clone(points[-1])
        servers.write(f"file-{depth}", path=path)
        points.append(await servers.snapshot(path))
    guids = [one.guid for one in points]
    first = await servers.source.lineage(guids)
    asked: list[Sequence[str]] = []

    async def run(argv: Sequence[str], **how: Any) -> command.Output:
        asked.append(argv)
        return await ran(argv, **how)

    ran = command.run
    with monkeypatch.context() as patched:
        patched.setattr(command, "run", run)
        assert await servers.source.lineage(guids) == first
        assert len(asked) == 1
        assert not any(argv[-1] == "one" for argv in asked)
    # What it stood on and no longer does is not in it, though it is asked for along with it.
    await servers.source.promote(path, points[-2].guid)
    after = await servers.source.lineage(guids[-1:])
    assert after == await servers.source.inspect(list(after.datasets))
    assert after.datasets.keys() < first.datasets.keys()
    assert points[-2].dataset not in after.datasets


async def test_unmounting_waits_for_open_files(servers: Servers) -> None:
    storage, path = servers.source, servers.path
    servers.write("file")
    with open(Path(storage.rootfs(path), "file")) as file:
        for refused in (storage.unmount(path), storage.destroy(path), storage.trim(path)):
            with pytest.raises(DatasetBusy):
                await refused
        assert file.read() == "file"
    await storage.unmount(path)
    assert not os.path.ismount(storage.rootfs(path))


async def test_trimming_frees_what_the_head_alone_has(servers: Servers) -> None:
    await servers.full()
    servers.write("after", 4 << 20)
    path = servers.path
    await servers.source.unmount(path)
    # What a head takes shows only after its transaction group, for which a set waits.
    await Zfs("one").do("set", "hoody:test=1", f"one/{path}")
    before = (await servers.source.inspect([path])).datasets[path]
    await servers.source.trim(path)
    after = (await servers.source.inspect([path])).datasets[path]
    assert before.head_differs
    assert not after.head_differs
    assert after.used_bytes < before.used_bytes - (3 << 20)


async def test_a_rollback_in_the_midst_of_an_unmount_is_done(servers: Servers) -> None:
    """zfs-fuse calls it an I/O error, seven times in ten."""
    path, zfs = servers.path, Zfs("one")
    for _ in range(8):
        servers.write("kept")
        snapshot = await servers.snapshot()
        servers.write("dropped")
        await servers.source.unmount(path)
        await zfs.do("rollback", zfs.snapshot_name(snapshot))
        await servers.source.mount(path)
        assert os.listdir(servers.source.rootfs(path)) == ["kept"]


async def test_retiring_frees_what_the_head_alone_has(servers: Servers) -> None:
    await servers.full()
    servers.write("after", 4 << 20)
    retired = mirror()
    await servers.source.retire(servers.path, retired)
    kept = (await servers.source.inspect([servers.path, retired])).datasets
    assert list(kept) == [retired]
    assert kept[retired].snapshots
    assert kept[retired].used_bytes < 3 << 20


async def test_properties_are_kept_with_the_dataset(servers: Servers) -> None:
    given = {"container": "a" * 24, "live-since": "2024-01-01T00:00:00.000Z"}
    path = f"containers/{new_id()}/{new_id()}"
    await servers.source.clone((await servers.snapshot()).guid, path, given)
    name = f"one/{path}"
    kept = await Zfs("one").properties([name], ["hoody:container", "hoody:live-since"])
    assert list(kept[name].values()) == list(given.values())


async def test_content_diff_is_refused(servers: Servers) -> None:
    source: Source = servers.source
    with pytest.raises(CannotExpress):
        await source.tree_root("1")
    with pytest.raises(CannotExpress):
        await anext(source.tree_nodes("1", [b""]))


async def test_whether_anything_was_written_since(servers: Servers) -> None:
    """Told by the snapshot's name; nothing is left of the question."""
    servers.write("first")
    first = await servers.snapshot()
    assert await servers.source.unchanged(servers.path, first.name, new_name()) == first.guid
    assert await servers.source.unchanged(servers.path, new_name(), new_name()) is None
    Path(servers.source.rootfs(servers.path), "first").touch()
    assert await servers.source.unchanged(servers.path, first.name, new_name()) is None
    dataset = (await servers.source.inspect([servers.path])).datasets[servers.path]
    assert [one.guid for one in dataset.snapshots] == [first.guid]
