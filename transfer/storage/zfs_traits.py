"""What ZFS under a root can do: tried once on a dataset made for it, and kept as a property of
the root for as long as the same driver and the same program run. Only root can try, for only root
can mount; who opens the storage later needs no more than to read the property."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from dataclasses import replace

from transfer.errors import PermissionMissing
from transfer.model import Traits
from transfer.storage.locks import locked
from transfer.storage.zfs_command import Zfs
from transfer.storage.zfs_features import RESUMES, Features, pool_features, taken, try_out
from transfer.storage.zfs_mounts import ZfsMounts

TRAITS = "hoody:traits"
_MODULE_VERSION = "/sys/module/zfs/version"
_FORM = 2  # of the text that is kept
_ODD_TIME_NS = 1_000_000_123_456_789
_HOLE_BYTES = 8 << 20


async def detect(zfs: Zfs, mounts: ZfsMounts, lock_dir: str) -> tuple[Traits, Features]:
    """The traits of the root's filesystems, and what the program does for them. Raises
    PermissionMissing where they are not known yet and this user cannot try."""
    async with locked(lock_dir, "traits"):
        driver = _driver()
        known = (await zfs.properties([zfs.root], [TRAITS]))[zfs.root][TRAITS]
        if known.startswith(driver + " "):
            traits, features = _parse(known)
        elif os.geteuid() != 0:
            raise PermissionMissing(
                f"{zfs.root} must be opened once as root, by this version of ZFS", driver=driver
            )
        else:
            traits, features = await _probe(zfs, mounts)
            await zfs.do("set", f"{TRAITS}={_text(driver, traits, features)}", zfs.root)
    pool = await pool_features(zfs.root)  # which may be upgraded at any time
    features = replace(features, resumes=features.resumes and RESUMES in pool)
    return (
        replace(
            traits,
            sends=features.flags,
            takes=taken(pool),
            resumes=features.resumes,
            branches=features.branches,
            bookmarks=features.bookmarks,
            runs=features.runs,
        ),
        features,
    )


async def _probe(zfs: Zfs, mounts: ZfsMounts) -> tuple[Traits, Features]:
    path = "probe/traits"
    directory = mounts.rootfs(path)
    options = ["-o", "canmount=noauto", "-o", f"mountpoint={directory}"]
    await _clear(zfs, mounts, path)  # of what a killed process has left
    await zfs.do("create", "-p", *options, zfs.name(path))  # and the parent
    try:
        await mounts.mount(path)
        traits = await asyncio.to_thread(_try_out, os.path.join(directory, "file"))
        await zfs.do("snapshot", f"{zfs.name(path)}@probe")
        return traits, await try_out(zfs, path)
    finally:
        await _clear(zfs, mounts, path)


async def _clear(zfs: Zfs, mounts: ZfsMounts, path: str) -> None:
    await mounts.unmount(path)
    parent = zfs.name(path.rpartition("/")[0])
    await zfs.do("destroy", "-r", parent, harmless=["dataset does not exist"])
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
    """The version of the kernel's module, `fuse` where ZFS runs in user space, and the program's
    date."""
    try:
        with open(_MODULE_VERSION, encoding="ascii") as version:
            module = version.read().strip().replace(" ", "-")
    except FileNotFoundError:
        module = "fuse"
    program = shutil.which("zfs")
    return f"{_FORM}/{module}/{os.stat(program).st_mtime_ns if program else 0}"


def _text(driver: str, traits: Traits, features: Features) -> str:
    return f"{driver} {traits.mtime_ns} {int(traits.xattrs)} {int(traits.seek_hole)} {features}"


def _parse(text: str) -> tuple[Traits, Features]:
    _, mtime_ns, xattrs, seek_hole, features = text.split(" ")
    traits = Traits(
        kind="zfs",
        native=True,
        clones_pin=True,
        mtime_ns=int(mtime_ns),
        xattrs=xattrs == "1",
        seek_hole=seek_hole == "1",
    )
    return traits, Features.parse(features)
