"""Opening, linking and syncing by held directory descriptors.

Tenants control what is inside a tree: no path of theirs is ever resolved through a symlink.
"""

from __future__ import annotations

import ctypes
import errno
import os

from transfer.tree.node import Metadata

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_libc = ctypes.CDLL(None, use_errno=True)

IS_ROOT = os.geteuid() == 0


class closing:
    """Closes the descriptor at the end. A class, for a generator costs more than the close."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> int:
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def open_root(path: str) -> int:
    """A directory by a path of our own; its last component is not followed."""
    return os.open(path, _DIRECTORY)


def open_directory(parent: int, name: bytes) -> int:
    """A directory of a directory."""
    return _open_unseen(parent, name, _DIRECTORY)


def open_file(parent: int, name: bytes) -> int:
    """A file of a directory, for reading; opening never waits, as it would for a fifo."""
    return _open_unseen(parent, name, _READ)


def create_file(parent: int, name: bytes) -> int:
    """A new, empty file that nobody else may read."""
    return os.open(name, _CREATE, 0o600, dir_fd=parent)


def open_beneath(root: int, path: bytes) -> int:
    """A file or directory at a path below a root; no component is followed."""
    names = path.split(b"/") if path else []
    held = os.dup(root)
    for name in names[:-1]:
        try:
            child = open_directory(held, name)
        finally:
            os.close(held)
        held = child
    if not names:
        return held
    with closing(held):
        return open_file(held, names[-1])


def _open_unseen(parent: int, name: bytes, flags: int) -> int:
    # A read must leave no trace in the tree; only the owner and root may ask for that.
    try:
        return os.open(name, flags | os.O_NOATIME, dir_fd=parent)
    except PermissionError:
        return os.open(name, flags, dir_fd=parent)


def set_metadata(descriptor: int, metadata: Metadata) -> None:
    """Owner (where we may), permission bits and time of an open file or directory."""
    if IS_ROOT:  # before the mode: a change of owner clears the set-id bits
        os.fchown(descriptor, metadata.uid, metadata.gid)
    os.fchmod(descriptor, metadata.mode)
    os.utime(descriptor, ns=(metadata.mtime_ns, metadata.mtime_ns))


def set_metadata_at(parent: int, name: bytes, metadata: Metadata, *, has_mode: bool) -> None:
    """The same for what cannot be opened: a symlink, a fifo, a device.

    The name is one that we have just made in a tree of our own.
    """
    if IS_ROOT:
        os.chown(name, metadata.uid, metadata.gid, dir_fd=parent, follow_symlinks=False)
    if has_mode:
        os.chmod(name, metadata.mode, dir_fd=parent)
    times = (metadata.mtime_ns, metadata.mtime_ns)
    os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)


def hard_link(source_root: int, path: bytes, target: int, name: bytes) -> bool:
    """One more name for the file at `path` of a tree of our own.

    False where it has as many names as its filesystem allows, or is on another filesystem.
    """
    try:
        os.link(path, name, src_dir_fd=source_root, dst_dir_fd=target, follow_symlinks=False)
    except OSError as error:
        if error.errno in {errno.EMLINK, errno.EXDEV, errno.EPERM}:
            return False
        raise
    return True


def copy_xattrs(source: int, target: int) -> int:
    """Copies extended attributes as far as both sides have them; returns how many were dropped."""
    try:
        names = os.listxattr(source)
    except OSError:
        return 0
    dropped = 0
    for name in names:
        try:
            os.setxattr(target, name, os.getxattr(source, name))
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EIO}:
                raise
            dropped += 1
    return dropped


def sync_filesystem(descriptor: int) -> None:
    """Brings everything of the descriptor's filesystem to the disk."""
    if _libc.syncfs(descriptor) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def replace_file(path: str, data: bytes, *, durable: bool = False) -> None:
    """Replaces a file of our own at once: a reader sees the old content or the new.

    Where it is not `durable`, a power failure before the next `sync_filesystem` may damage it:
    for what is in a place that is not published yet, or carries a digest.
    """
    temporary = path + ".new"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    os.replace(temporary, path)


def sync_directory(path: str) -> None:
    """Brings a directory's names to the disk."""
    with closing(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as descriptor:
        os.fsync(descriptor)
