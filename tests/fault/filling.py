"""Clusters of two whose second server has a disk that can be filled, and emptied again."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.acceptance.cluster import Daemon
from tests.fault.boundaries import FreezingCluster

COMMAND_SECONDS = 60.0
FILL_SECONDS = 60.0
DISK_BYTES = 768 << 20
PAGE_BYTES = 4096


def run(*argv: str) -> str:
    """What the command prints; it must end well."""
    done = subprocess.run(argv, capture_output=True, timeout=COMMAND_SECONDS, check=True)
    return done.stdout.decode()


class Tmpfs:
    """A file system in memory, in this program's own mount namespace. It is full when it may be
    no larger than what is in it."""

    def __init__(self, path: Path, size_bytes: int = DISK_BYTES) -> None:
        self.path = path
        self._size_bytes = size_bytes

    @contextlib.contextmanager
    def mounted(self) -> Iterator[None]:
        """Mounts it on a new directory while the body runs."""
        self.path.mkdir()
        run("mount", "-t", "tmpfs", "-o", f"size={self._size_bytes}", "hoody-test", str(self.path))
        try:
            yield
        finally:
            run("umount", "--lazy", str(self.path))

    def fill(self) -> None:
        """No room is left."""
        found = os.statvfs(self.path)
        used = (found.f_blocks - found.f_bfree) * found.f_frsize
        run("mount", "-o", f"remount,size={used + PAGE_BYTES}", str(self.path))

    def empty(self) -> None:
        """There is as much room as in the beginning."""
        run("mount", "-o", f"remount,size={self._size_bytes}", str(self.path))


class Ext4:
    """A file system in a file, which becomes read-only as one does whose disk has failed. It is
    mended when nobody has a file open there."""

    def __init__(self, path: Path, size_bytes: int = 32 << 20) -> None:
        self.path = path
        self._image = str(path.with_suffix(".image"))
        with open(self._image, "wb") as image:
            image.truncate(size_bytes)
        run("mkfs.ext4", "-q", self._image)

    @contextlib.contextmanager
    def mounted(self) -> Iterator[None]:
        """Mounts it on a new directory while the body runs."""
        self.path.mkdir()
        self._mount()
        try:
            yield
        finally:
            run("umount", "--lazy", str(self.path))

    def fail(self) -> None:
        """Nothing can be written any more, also to files that are open."""
        run("mount", "-o", "remount,abort", str(self.path))

    def mend(self) -> None:
        """As an operator does: checks it and mounts it again."""
        run("umount", str(self.path))
        subprocess.run(["e2fsck", "-p", self._image], timeout=COMMAND_SECONDS, check=False)
        self._mount()

    def _mount(self) -> None:
        run("mount", "-o", "loop", self._image, str(self.path))


class Pool:
    """A zfs pool; it is full when all that is free is promised to a dataset beside our root."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._filler = f"{name}/filler"

    def fill(self) -> None:
        """No room is left for others. The filler is there before it is promised anything: what a
        dataset takes to be made is not to be had beside a promise of all that is free."""
        run("zfs", "create", "-p", "-o", "mountpoint=none", self._filler)
        free = run("zfs", "get", "-Hp", "-o", "value", "available", self._name).strip()
        run("zfs", "set", f"reservation={free}", self._filler)

    def empty(self) -> None:
        """Lets the promise go."""
        run("zfs", "destroy", self._filler)


class FillingCluster(FreezingCluster):
    """Two servers, whose workers also stop where they are told to."""

    @property
    def disk(self) -> Tmpfs | Pool:
        """What server b's storage is on."""
        if self.zfs:
            return Pool(f"hoody-{self.directory.name}-b")
        return Tmpfs(self.directory / "storage-b")

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """While the body runs, there is no room on server b. That others write while we look how
        much there is makes it come again."""
        deadline = time.monotonic() + FILL_SECONDS
        while True:
            try:
                self.disk.fill()
                break
            except subprocess.CalledProcessError:
                assert time.monotonic() < deadline
        try:
            yield
        finally:
            self.disk.empty()

    @property
    def target(self) -> Daemon:
        """The server whose disk it is."""
        return self.daemons[1]
