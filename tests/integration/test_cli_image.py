"""`hoodyd image` as an operator types it: what it makes, what it refuses in one line, and what is
left of it when it is killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from daemon.actions.collect import Collector, Rules
from daemon.config import Config, load
from daemon.model import DatasetRow, Role, now
from daemon.model_images import Image
from daemon.store import datasets, image_shelf, images
from daemon.store.database import Database
from tests import tarballs
from tests.integration.command_line import Ran, environment, run, started
from transfer.storage import open_storage
from transfer.storage.base import Storage

AT_ONCE = Rules(grace=timedelta(0), base_ttl=timedelta(days=30))
DESCRIBED = ("--os", "tiny", "--release", "1", "--architecture", "amd64")
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
FILES = 5000
KINDS = [pytest.param("zfs", marks=pytest.mark.zfs), pytest.param("dir")]


@dataclass
class Site:
    """A server that `hoodyd init` has made, and a look behind it."""

    home: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        return environment(self.home, **self.variables)

    @property
    def config(self) -> Config:
        return load(str(self.home / "hoodyd.toml"), self.variables)

    async def hoodyd(self, *arguments: str) -> Ran:
        config = ("--config", str(self.home / "hoodyd.toml"))
        return await run("hoodyd", *arguments, *config, env=self.env)

    async def add(self, name: str, source: Path, *options: str) -> Ran:
        return await self.hoodyd("image", "add", name, *DESCRIBED, "--from", str(source), *options)

    async def storage(self) -> Storage:
        settings = self.config.storage
        return await open_storage(
            settings.backend, settings.root, settings.mount_root, self.config.server.state_dir
        )

    async def shelf(self) -> list[Image]:
        database = Database(self.config.database.url)
        async with database.read() as tx:
            found = await image_shelf.every(tx)
        await database.close()
        return found

    async def rows(self) -> list[DatasetRow]:
        database = Database(self.config.database.url)
        async with database.read() as tx:
            found = await datasets.on_server(tx, self.config.server.id)
        await database.close()
        return found

    async def collect(self) -> None:
        database = Database(self.config.database.url)
        server = self.config.server
        storage = await self.storage()
        await Collector(database, storage, server.id, AT_ONCE, server.state_dir).run(now())
        await database.close()

    async def holds(self, *made: Image) -> None:
        """Nothing but these images, in the catalogue and in the storage."""
        assert {row.id for row in await self.rows()} == {one.id for one in made}
        forest = await (await self.storage()).forest()
        assert set(forest.datasets) == {f"images/{one.id}" for one in made}
        state = os.listdir(self.config.server.state_dir)
        assert [name for name in state if "images" in name] == []
        (await self.hoodyd("doctor")).good()


@pytest.fixture(params=KINDS)
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    made = Site(tmp_path)
    if request.param == "zfs":
        pool: Callable[[str], str] = request.getfixturevalue("zfs_pool")
        made.variables["HOODY_STORAGE__BACKEND"] = "zfs"
        made.variables["HOODY_STORAGE__ROOT"] = pool("images")
    (await made.hoodyd("init")).good()
    yield made


@pytest.fixture
async def plain(tmp_path: Path) -> Site:
    """On dir, where it does not matter."""
    made = Site(tmp_path)
    (await made.hoodyd("init")).good()
    return made


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    """A root filesystem with a program in it."""
    top = tmp_path / "rootfs"
    for name in ("bin", "etc", "proc", "tmp"):
        (top / name).mkdir(parents=True)
    shutil.copy(str(shutil.which("busybox")), top / "bin/busybox")
    for name in ("sh", "ls"):
        (top / "bin" / name).symlink_to("busybox")
    (top / "etc/hostname").write_text("tiny\n")
    os.chmod(top / "tmp", 0o1777)
    return top


def packed(tree: Path) -> Path:
    """As people pack images: by tar and zstd."""
    archive = tree.parent / "rootfs.tar.zst"
    argv = ["tar", "--zstd", "--numeric-owner", "-cf", str(archive), "-C", str(tree), "."]
    subprocess.run(argv, check=True)
    return archive


def small(home: Path) -> Path:
    path = home / "small.tar"
    path.write_bytes(tarballs.archive([tarballs.file("etc/hostname")]))
    return path


def refused(ran: Ran, *parts: str) -> None:
    assert (ran.code, ran.out) == (2, ""), ran
    assert len(ran.err.splitlines()) == 1, ran.err
    for part in parts:
        assert part in ran.err


async def test_a_real_image_is_added_listed_and_removed(site: Site, rootfs: Path) -> None:
    (site.home / "icon.png").write_bytes(PNG)
    options = ("--icon", str(site.home / "icon.png"), "--price", "5.99", "--tag", "small")
    ran = (
        await site.add("tiny/1", packed(rootfs), *options, "--tag", "small", "--prespawn")
    ).good()
    (made,) = await site.shelf()
    assert made.id in ran.out
    assert (made.alias, made.image_name) == ("tiny/1", "tiny-1-amd64")
    assert (made.os, made.release, made.architecture) == ("tiny", "1", "amd64")
    assert (made.variant, made.serial) == ("default", f"{now():%Y%m%d}")
    assert (made.price_cents, made.tags) == (599, ("small",))
    assert (made.prespawn, made.public) == (True, True)
    assert made.size_bytes >= (rootfs / "bin/busybox").stat().st_size // 2
    database = Database(site.config.database.url)
    async with database.read() as tx:
        assert await images.icon(tx, made.id) == PNG
    await database.close()
    await site.holds(made)
    listed = (await site.hoodyd("image", "list")).good().out
    for word in (made.id, "tiny/1", "amd64", "5.99", "public, prespawn", site.config.server.name):
        assert word in listed
    refused(await site.add("tiny/1", small(site.home)), "there is tiny/1 already")
    await site.holds(made)
    (await site.hoodyd("image", "remove", "tiny/1")).good()
    assert "no images yet" in (await site.hoodyd("image", "list")).good().out
    refused(await site.hoodyd("image", "remove", "tiny/1"), "there is no tiny/1", "image list")
    # Whatever stood on it stays; here nothing does.
    (row,) = await site.rows()
    assert (row.role, row.ready) == (Role.IMAGE, True)


async def test_a_directory_is_an_image_too(site: Site, rootfs: Path) -> None:
    (await site.add("tiny/2", rootfs, "--unpublished", "--serial", "7")).good()
    (made,) = await site.shelf()
    assert (made.public, made.serial) == (False, "7")
    await site.holds(made)


async def test_an_image_that_cannot_be_leaves_nothing(site: Site) -> None:
    bad = site.home / "bad.tar"
    bad.write_bytes(tarballs.archive([tarballs.file("x"), tarballs.file("../evil\n")]))
    refused(await site.add("tiny/1", bad), str(bad), "../evil", "leads upwards")
    whole = small(site.home).read_bytes()
    bad.write_bytes(whole[:1024])
    refused(await site.add("tiny/1", bad), "etc/hostname", "ends too early")
    bomb = tarballs.file("bomb")[0]
    bomb.size = 1 << 39
    bad.write_bytes(bomb.tobuf())
    refused(await site.add("tiny/1", bad), "there is room for")
    assert await site.shelf() == []
    await site.holds()


async def test_publishing_and_the_opposite_may_be_said_twice(plain: Site) -> None:
    (await plain.add("tiny/1", small(plain.home))).good()
    (made,) = await plain.shelf()
    for verb, public in (("unpublish", False), ("publish", True)):
        for named in ("tiny/1", made.id):
            (await plain.hoodyd("image", verb, named)).good()
            assert [one.public for one in await plain.shelf()] == [public]
        refused(await plain.hoodyd("image", verb, "other"), "there is no other")


async def test_before_init_it_says_so(tmp_path: Path) -> None:
    refused(await Site(tmp_path).add("tiny", small(tmp_path)), "run: hoodyd init")


async def until_it_unpacks(site: Site, process: Process) -> None:
    """Stops the process when the first files are there."""
    while not any(site.home.rglob("f0")):
        assert process.returncode is None
        await asyncio.sleep(0.01)
    process.send_signal(signal.SIGSTOP)


def many(home: Path) -> Path:
    archive = home / "many.tar"
    entries = (tarballs.file(f"f{number}", b"x") for number in range(FILES))
    archive.write_bytes(tarballs.archive(entries))
    return archive


def adding(site: Site, archive: Path) -> contextlib.AbstractAsyncContextManager[Process]:
    argv = ("image", "add", "tiny/1", *DESCRIBED, "--from", str(archive))
    return started("hoodyd", *argv, "--config", str(site.home / "hoodyd.toml"), env=site.env)


async def test_interrupted_it_ends_at_once(plain: Site) -> None:
    """It does not wait for the thread that unpacks."""
    async with adding(plain, many(plain.home)) as process:
        await until_it_unpacks(plain, process)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)
        assert await process.wait() == -signal.SIGINT
    (begun,) = await plain.rows()
    assert not begun.ready
    await plain.collect()
    await plain.holds()


async def test_killed_in_the_middle_it_leaves_what_the_collector_takes_away(site: Site) -> None:
    archive = many(site.home)
    async with adding(site, archive) as process:
        await until_it_unpacks(site, process)
        (begun,) = await site.rows()
        assert (begun.role, begun.ready) == (Role.IMAGE, False)
        assert await site.shelf() == []
        # It is slow, no more: the collector leaves alone what it makes.
        await site.collect()
        assert await site.rows() == [begun]
        assert begun.path in (await (await site.storage()).forest()).datasets
        process.kill()
        await process.wait()
    await site.collect()
    await site.holds()
    (await site.add("tiny/1", archive)).good()
    (made,) = await site.shelf()
    assert made.id != begun.id
    await site.holds(made)
