"""Encrypted datasets: only the real module has them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.openzfs.inside.encrypted import create_encrypted, new_key, zfs
from tests.zfs_servers import TAG, Servers, full_step, increment, mirror, new_id, new_name
from transfer.errors import KeyUnavailable, PeerUnreachable, TransferError
from transfer.model import Step
from transfer.plan import flagged
from transfer.storage.zfs import ZfsStorage

pytestmark = pytest.mark.zfs


@pytest.fixture
def key(tmp_path: Path) -> str:
    """Where the key of the source's root is, as a URL."""
    return new_key(tmp_path / "key")


@pytest.fixture
async def servers(zfs_pool: Callable[..., str], tmp_path: Path, key: str) -> Servers:
    """The source's root is encrypted; the target has no key."""
    for pool in ("one", "two"):
        zfs_pool(pool)
    create_encrypted("one/hoody", key)
    zfs("create", "two/hoody")
    source, target = [await opened(pool, tmp_path) for pool in ("one", "two")]
    (tmp_path / "tree").mkdir()
    taken = await source.take_in(str(tmp_path / "tree"), mirror(), new_name(), lambda _: None)
    path = f"containers/{new_id()}/{new_id()}"
    await source.clone(taken.guid, path)
    await source.mount(path)
    return Servers(source, target, path)


async def opened(pool: str, tmp_path: Path) -> ZfsStorage:
    folders = [tmp_path / pool / folder for folder in ("mount", "locks")]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    return await ZfsStorage.open(f"{pool}/hoody", *map(str, folders))


async def planned(servers: Servers, step: Step) -> Step:
    """The step as the planner would send it."""
    source = await servers.source.lineage([step.snapshot])
    return flagged(step, source, await servers.target.forest(), "Lecw")


async def test_an_encrypted_source_goes_raw(servers: Servers, key: str, tmp_path: Path) -> None:
    """It is received without the key, in full and by increments; mounted only with it."""
    servers.write("first")
    first, path = await servers.snapshot(), mirror()
    step = await planned(servers, full_step(first))
    assert step.flags == "Lecw"
    assert await servers.source.size(step) > 0
    await servers.ship(step, path)
    there = (await servers.target.inspect([path])).datasets[path]
    assert (there.encrypted, there.locked, there.flags) == (True, True, "Lecw")
    servers.write("second")
    step = await planned(servers, increment(first, await servers.snapshot(), path))
    await servers.ship(step, path)
    with pytest.raises(KeyUnavailable):
        await servers.names(path)
    zfs("set", f"hoody:keylocation={key}", "two/hoody")
    servers.target = await opened("two", tmp_path)
    assert (await servers.target.traits()).unlocks
    assert await servers.names(path) == {"first", "second"}


async def test_a_raw_stream_that_was_cut_is_gone_on_with(
    servers: Servers, key: str, tmp_path: Path
) -> None:
    servers.write("first", 8 << 20)
    path, passed_bytes = mirror(), 0
    step = await planned(servers, full_step(await servers.snapshot()))

    async def cut() -> AsyncGenerator[bytes, None]:
        nonlocal passed_bytes
        async with contextlib.aclosing(servers.source.send(step)) as blocks:
            async for block in blocks:
                yield block
                passed_bytes += len(block)
                if passed_bytes > 6 << 20:
                    raise PeerUnreachable("cut")

    with pytest.raises(PeerUnreachable):
        await servers.target.receive(step, path, cut())
    resumed = await servers.target.resume_point(step, path)
    assert resumed is not None
    assert await servers.source.size(resumed) < 4 << 20
    await servers.ship(resumed, path)
    zfs("set", f"hoody:keylocation={key}", "two/hoody")
    servers.target = await opened("two", tmp_path)
    assert await servers.names(path) == {"first"}


async def test_another_key_is_no_key(servers: Servers, tmp_path: Path) -> None:
    servers.write("first")
    path = mirror()
    await servers.ship(await planned(servers, full_step(await servers.snapshot())), path)
    zfs("set", f"hoody:keylocation={new_key(tmp_path / 'wrong')}", "two/hoody")
    servers.target = await opened("two", tmp_path)
    with pytest.raises(KeyUnavailable):
        await servers.names(path)


async def test_a_raw_increment_leaves_a_plain_mirror_alone(servers: Servers) -> None:
    """And the other way round; the planner refuses before (test_plan)."""
    servers.write("first")
    first = await servers.snapshot()
    plain, raw = mirror(), mirror()
    await servers.ship(replace(full_step(first), flags="Lec"), plain)
    await servers.ship(replace(full_step(first), flags="Lecw"), raw)
    servers.write("second")
    second = await servers.snapshot()
    for path, flags in ((plain, "Lecw"), (raw, "Lec")):
        with pytest.raises(TransferError):
            await servers.ship(replace(increment(first, second, path), flags=flags), path)
        head = (await servers.target.inspect([path])).datasets[path].head
        assert head is not None and head.guid == first.guid


async def test_a_snapshot_on_a_locked_server_is_still_held_and_let_go(servers: Servers) -> None:
    servers.write("first")
    first, path = await servers.snapshot(), mirror()
    await servers.ship(await planned(servers, full_step(first)), path)
    await servers.target.hold([first.guid], TAG)
    await servers.target.release([first.guid], TAG)
    await servers.target.trim(path)
    await servers.target.destroy_snapshot(path, first.guid)
    await servers.target.destroy(path)
    assert not (await servers.target.inspect([path])).datasets


async def test_a_mount_that_was_killed_half_way_can_be_written(servers: Servers) -> None:
    """What is encrypted is mounted to be read first."""
    await servers.source.unmount(servers.path)
    zfs("mount", "-o", "ro", f"one/hoody/{servers.path}")
    with pytest.raises(OSError, match="Read-only"):
        servers.write("first")
    await servers.source.mount(servers.path)
    servers.write("first")
