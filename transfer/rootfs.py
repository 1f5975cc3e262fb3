"""Safe access to a tree that a tenant controls.

Whoever owns a container decides what stands in its root filesystem: `/etc` may be a symlink to
the server's `/etc`, `/root/.ssh` one to `../../..`, a key file may be a fifo or a device, and any
of them may change while we look. Everything here works on directories that are held open, never
follows a symlink, never crosses a mount and never opens anything but directories and regular
files. A path is a tenant's, relative to the tree; the tree's own path is ours and is trusted.

The kernel resolves paths (`openat2`, Linux 5.6); where it cannot or may not, they are walked one
component at a time with O_NOFOLLOW, to the same effect.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import secrets
import stat
from collections.abc import Iterator
from types import TracebackType
from typing import Self

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_RESOLVE_NO_XDEV = 0x01
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_IN_ROOT = 0x10
_SYS_OPENAT2 = {"x86_64": 437, "aarch64": 437}.get(platform.machine())
_TRIES_MAX = 16  # openat2 asks for another try when the tree was renamed around it
_NO_OPENAT2 = {errno.ENOSYS, errno.EPERM}  # EPERM: a seccomp filter that is older than the call
_NOT_REAL = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV}

_libc = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


class Root:
    """A tree, held open. Use it as a context manager.

    Methods raise OSError: ELOOP or ENOTDIR for a component that is a symlink or no directory,
    EXDEV for one on another mount and for `..`.
    """

    def __init__(self, path: str) -> None:
        """Opens the tree at `path`, which must be a directory."""
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._fd)

    @contextlib.contextmanager
    def open_dir(self, path: str) -> Iterator[int]:
        """The directory at `path`, held open while the context lasts; `""` is the tree's root."""
        fd = _open_dir(self._fd, _components(path))
        try:
            yield fd
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def find_dir(self, path: str) -> Iterator[int | None]:
        """As `open_dir`, but None where `path` is no real directory of this tree."""
        with contextlib.ExitStack() as stack:
            fd: int | None = None
            try:
                fd = stack.enter_context(self.open_dir(path))
            except OSError as error:
                if error.errno not in _NOT_REAL:
                    raise
            yield fd


def kind_of(dir_fd: int, name: str) -> int:
    """The `stat.S_IFMT` kind of `name` itself in the held directory; 0 where there is none."""
    _check_name(name)
    try:
        return stat.S_IFMT(os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return 0


def read_file(dir_fd: int, name: str, limit_bytes: int) -> bytes:
    """The content of the regular file `name` in the held directory.

    Raises OSError: EINVAL for anything but a regular file, EFBIG where it is longer, EXDEV where
    another file is mounted on it.
    """
    _check_name(name)
    # O_PATH opens nothing, so that not even a device notices; what it named is then opened itself.
    handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", name)
        if _mount_of(handle) != _mount_of(dir_fd):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), name)
        with open(f"/proc/self/fd/{handle}", "rb") as file:
            content = file.read(limit_bytes + 1)
    finally:
        os.close(handle)
    if len(content) > limit_bytes:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), name)
    return content


def replace_file(dir_fd: int, name: str, content: bytes, mode: int) -> None:
    """Puts a new regular file in the place of `name` in the held directory.

    Whatever stood there, be it a symlink, a fifo or one of several hard links, is unlinked and
    not written to; a directory is refused (OSError, EISDIR). The file takes over the permissions
    and owner of a regular file that it replaces, else it has `mode` and the directory's owner.
    """
    _check_name(name)
    owner = os.fstat(dir_fd)
    if kind_of(dir_fd, name) == stat.S_IFREG:
        owner = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        mode = owner.st_mode & 0o777
    temporary = f".hoody-{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(temporary, flags, 0o600, dir_fd=dir_fd)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            restore(fd, owner, mode)
        os.rename(temporary, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=dir_fd)
        raise


def make_dir(dir_fd: int, name: str, mode: int) -> None:
    """Makes `name` in the held directory, with the directory's owner, where nothing is yet."""
    _check_name(name)
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=dir_fd)
        fd = os.open(name, _DIRECTORY, dir_fd=dir_fd)
        try:
            restore(fd, os.fstat(dir_fd), mode)
        finally:
            os.close(fd)


@contextlib.contextmanager
def kept(dir_fd: int) -> Iterator[None]:
    """Lets the held directory's entries be changed, and puts its times, mode and owner back."""
    before = os.fstat(dir_fd)
    if os.geteuid() != 0 and before.st_mode & 0o300 != 0o300:
        os.fchmod(dir_fd, stat.S_IMODE(before.st_mode) | 0o300)
    try:
        yield
    finally:
        restore(dir_fd, before, stat.S_IMODE(before.st_mode))
        os.utime(dir_fd, ns=(before.st_atime_ns, before.st_mtime_ns))


def restore(fd: int, owner: os.stat_result, mode: int) -> None:
    """Gives what is open as `fd` the owner of `owner` and the permissions `mode`."""
    now = os.fstat(fd)
    if (now.st_uid, now.st_gid) != (owner.st_uid, owner.st_gid):
        os.fchown(fd, owner.st_uid, owner.st_gid)
    if stat.S_IMODE(os.fstat(fd).st_mode) != mode:  # after the owner: chown clears setuid
        os.fchmod(fd, mode)


def _components(path: str) -> list[str]:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise OSError(errno.EXDEV, "a path must not go up", path)
    return parts


def _check_name(name: str) -> None:
    if name in ("", ".", "..") or "/" in name:
        raise OSError(errno.EINVAL, "not the name of an entry", name)


def _open_dir(root_fd: int, parts: list[str]) -> int:
    if _SYS_OPENAT2 is not None:
        try:
            return _open_by_kernel(root_fd, _SYS_OPENAT2, parts)
        except OSError as error:
            if error.errno not in _NO_OPENAT2:
                raise
    return _open_by_walk(root_fd, parts)


def _open_by_kernel(root_fd: int, syscall: int, parts: list[str]) -> int:
    path = "/".join(parts) or "."
    how = _OpenHow(
        flags=_DIRECTORY,
        resolve=_RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_XDEV,
    )
    failed = errno.EAGAIN
    for _ in range(_TRIES_MAX):
        fd: int = _libc.syscall(
            ctypes.c_long(syscall),
            ctypes.c_int(root_fd),
            ctypes.c_char_p(os.fsencode(path)),
            ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        )
        if fd >= 0:
            return fd
        failed = ctypes.get_errno()
        if failed not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(failed, os.strerror(failed), path)


def _open_by_walk(root_fd: int, parts: list[str]) -> int:
    mount = _mount_of(root_fd)
    fd = os.dup(root_fd)
    for part in parts:
        parent = fd
        try:
            fd = os.open(part, _DIRECTORY, dir_fd=parent)
        finally:
            os.close(parent)
        if _mount_of(fd) != mount:
            os.close(fd)
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), part)
    return fd


def _mount_of(fd: int) -> str:
    """Names the mount that what is open as `fd` was reached by. A bind mount has one of its own,
    though its device may be the tree's."""
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as lines:
        return next(line for line in lines if line.startswith("mnt_id:"))
