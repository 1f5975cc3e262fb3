"""What the filesystems under a ZFS root can do: tried once on a dataset made for it, and kept
as a property of the root for as long as the same driver runs."""

from __future__ import annotations

import asyncio
import errno
import os
from dataclasses import replace

from transfer.model import Traits
from transfer.storage.locks import locked
from transfer.storage.zfs_command import Zfs
from transfer.storage.zfs_mounts import ZfsMounts

TRAITS = "hoody:traits"
_MODULE_VERSION = "/sys/module/zfs/version"
_ODD_TIME_NS = 1_000_000_123_456_789
_HOLE_BYTES = 8 << 20


async def detect(zfs: Zfs, mounts: ZfsMounts, lock_dir: str) -> Traits:
    """The traits of the root's filesystems."""
    async with locked(lock_dir, "traits"):
        driver = _driver()
        known = (await zfs.properties([zfs.root], [TRAITS]))[zfs.root][TRAITS]
        if known.startswith(driver + " "):
            return _parse(known)
        traits = await _probe(zfs, mounts)
        await zfs.do("set", f"{TRAITS}={_text(driver, traits)}", zfs.root)
        return traits


async def _probe(zfs: Zfs, mounts: ZfsMounts) -> Traits:
    path = "probe/traits"
    directory = mounts.rootfs(path)
    options = ["-o", "canmount=noauto", "-o", f"mountpoint={directory}"]
    # `-p` makes the parent `probe` too; one that a killed process has left is used again.
    await zfs.do("create", "-p", *options, zfs.name(path), harmless=["already exists"])
    try:
        await mounts.mount(path)
        return await asyncio.to_thread(_try_out, os.path.join(directory, "file"))
    finally:
        await mounts.unmount(path)
        await zfs.do("destroy", "-r", zfs.name("probe"))
        mounts.forget(path)


def _try_out(file: str) -> Traits:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        traits = Traits(kind="zfs", native=True, clones_pin=True)
        os.utime(descriptor, ns=(_ODD_TIME_NS, _ODD_TIME_NS))
        kept = os.fstat(descriptor).st_mtime_ns
        traits = replace(traits, mtime_ns=1 if kept == _ODD_TIME_NS else 10**9)
        os.pwrite(descriptor, b"x", _HOLE_BYTES)
        os.fsync(descriptor)
        data = os.lseek(descriptor, 0, os.SEEK_DATA)
        return replace(traits, seek_hole=data > 0, xattrs=_has_xattrs(descriptor))
    finally:
        os.close(descriptor)


def _has_xattrs(descriptor: int) -> bool:
    try:
        os.setxattr(descriptor, "user.hoody", b"x")
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.ENOSYS):
            return False
        raise
    return True


def _driver() -> str:
    """The version of the kernel's module, `fuse` where ZFS runs in user space."""
    try:
        with open(_MODULE_VERSION, encoding="ascii") as version:
            return version.read().strip().replace(" ", "-")
    except FileNotFoundError:
        return "fuse"


def _text(driver: str, traits: Traits) -> str:
    return f"{driver} {traits.mtime_ns} {int(traits.xattrs)} {int(traits.seek_hole)}"


def _parse(text: str) -> Traits:
    _, mtime_ns, xattrs, seek_hole = text.split(" ")
    return Traits(
        kind="zfs",
        native=True,
        clones_pin=True,
        mtime_ns=int(mtime_ns),
        xattrs=xattrs == "1",
        seek_hole=seek_hole == "1",
    )
