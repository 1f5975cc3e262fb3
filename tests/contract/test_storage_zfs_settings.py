"""Which properties go with a dataset, and that no other does; the same test code on zfs-fuse and
on OpenZFS."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kernel_zfs import KERNEL
from tests.zfs_servers import (
    FILE_BYTES,
    Servers,
    full_step,
    increment,
    mirror,
    new_id,
    open_servers,
)
from transfer import command
from transfer.errors import TransferError
from transfer.model import Settings, Step

pytestmark = pytest.mark.zfs

SETTINGS = {"recordsize": "16384", "compression": "gzip-2"}
OPENZFS_SETTINGS = {"xattr": "off", "acltype": "posix", "dnodesize": "auto"}
KNOWN = SETTINGS | OPENZFS_SETTINGS if KERNEL else SETTINGS
STRANGE = {"devices": "off", "exec": "off", "setuid": "off", "quota": "1G", "hoody:head": "1"}


@pytest.fixture
async def servers(zfs_pool: Callable[..., str], tmp_path: Path) -> Servers:
    return await open_servers(zfs_pool, tmp_path)


def zfs(*arguments: str) -> str:
    return subprocess.run(["zfs", *arguments], check=True, capture_output=True, text=True).stdout


def give(name: str, **properties: str) -> None:
    for key, value in properties.items():
        zfs("set", f"{key}={value}", name)


def properties(name: str, *keys: str) -> dict[str, str]:
    lines = zfs("get", "-Hp", "-o", "property,value", ",".join(keys), name).splitlines()
    return dict(line.split("\t") for line in lines)


async def settings_of(servers: Servers, guid: str) -> Settings:
    forest = await servers.source.lineage([guid])
    return forest.datasets[servers.path].settings


async def test_settings_go_to_a_mirror_and_to_a_clone(servers: Servers) -> None:
    give(f"one/{servers.path}", **KNOWN, **STRANGE)
    servers.write("first")
    first, path = await servers.snapshot(), mirror()
    settings = await settings_of(servers, first.guid)
    assert dict(settings) == KNOWN
    await servers.ship(replace(full_step(first), settings=settings), path)
    assert properties(f"two/{path}", *KNOWN) == KNOWN
    copy = f"containers/{new_id()}/{new_id()}"
    await servers.target.clone(first.guid, copy)
    assert properties(f"two/{copy}", *KNOWN) == KNOWN
    live = f"containers/{new_id()}/{new_id()}"
    await servers.source.clone(first.guid, live)
    assert properties(f"one/{live}", *KNOWN) == KNOWN
    assert properties(f"one/{live}", "exec", "quota") == {"exec": "on", "quota": "0"}


async def test_what_changes_on_the_source_changes_with_the_next_increment(
    servers: Servers,
) -> None:
    first, path = await servers.full()
    give(f"one/{servers.path}", **SETTINGS)
    for name, wanted in (("second", SETTINGS), ("third", {})):
        for key in SETTINGS.keys() - wanted.keys():
            zfs("inherit", key, f"one/{servers.path}")
        servers.write(name)
        snapshot = await servers.snapshot()
        settings = await settings_of(servers, snapshot.guid)
        assert dict(settings) == wanted
        step = replace(increment(first, snapshot, path), settings=settings)
        first = await servers.ship(step, path)
        local = zfs("get", "-H", "-s", "local", "-o", "property", ",".join(SETTINGS), f"two/{path}")
        assert set(local.split()) == wanted.keys()


async def test_what_a_peer_says_beyond_the_list_is_not_heard(servers: Servers) -> None:
    """Neither another property, nor a value of another form."""
    servers.write("first")
    hostile = (
        ("compression", "-s"),
        ("mountpoint", "/etc"),
        ("sharenfs", "on"),
        ("recordsize", "16k -o exec=on"),
    )
    step = replace(full_step(await servers.snapshot()), settings=(*hostile, *STRANGE.items()))
    path = mirror()
    await servers.ship(step, path)
    found = properties(f"two/{path}", "mountpoint", "exec", "setuid", "quota", "hoody:head")
    head = (await servers.target.inspect([path])).datasets[path].head
    assert head is not None
    assert found == {
        "mountpoint": "none",
        "exec": "on",
        "setuid": "on",
        "quota": "0",
        "hoody:head": head.guid,
    }


async def stream(*arguments: str) -> AsyncGenerator[bytes, None]:
    async with command.reading(["zfs", "send", *arguments]) as child:
        while block := await child.read():
            yield block


@pytest.mark.parametrize("options", [["-p"], ["-R"]])
async def test_a_stream_that_carries_properties_is_refused(
    servers: Servers, options: list[str]
) -> None:
    give(f"one/{servers.path}", **STRANGE)
    servers.write("first")
    first, path = await servers.snapshot(), mirror()
    name = f"one/{first.dataset}@{first.name}"
    async with contextlib.aclosing(stream(*options, name)) as blocks:
        with pytest.raises(TransferError):
            await servers.target.receive(full_step(first), path, blocks)
    assert path not in (await servers.target.forest()).datasets


async def test_a_quota_stays_where_it_is(servers: Servers) -> None:
    """One that is smaller than the tree makes no receive and no clone fail."""
    servers.write("first", FILE_BYTES)
    first, path = await servers.snapshot(), mirror()
    give(f"one/{servers.path}", refquota=str(FILE_BYTES * 2), quota=str(FILE_BYTES * 2))
    settings = await settings_of(servers, first.guid)
    step: Step = replace(full_step(first), settings=settings)
    await servers.ship(step, path)
    assert await servers.names(path) == {"first"}
    assert properties(f"two/{path}", "quota", "refquota") == {"quota": "0", "refquota": "0"}
