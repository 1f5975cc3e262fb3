"""Unpacking a root filesystem's archive into an empty directory.

An archive is written by whoever made it, so it is treated as a tenant's tree is: each entry's
directories are opened one by one below the root, none of them through a symlink, and what stands
where an entry goes is taken away, never written to or followed. Refused are absolute names, `..`,
what leads through anything but directories, and hard links to what is not there.

Owners and devices need root; what could not be kept is counted in the report. A name that comes
twice counts as it came last. Directories that only the names of others tell of are root's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat as modes
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from transfer.errors import SourcePathInvalid
from transfer.tree.archive import Archive, Piece, open_archive, shown
from transfer.tree.chunk import write_sparse
from transfer.tree.copy import CopyReport
from transfer.tree.descriptor import (
    closing,
    create_file,
    open_beneath,
    open_directory,
    open_root,
    set_metadata,
    set_metadata_at,
)
from transfer.tree.node import PATH_BYTES_MAX, Metadata, join
from transfer.tree.scan import DEPTH_MAX

_XATTR = "SCHILY.xattr."
_NS = 1_000_000_000
_SECONDS_MAX = 1 << 40
_OWNER_MAX = (1 << 32) - 2  # the last one means "leave it as it is" to the kernel
_IMPLIED = Metadata(0o755, 0, 0, 0)

# Not the archive's fault: they go to who asked, as they are.
_OURS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENOMEM}
_NO_DIRECTORY = {errno.ENOTDIR, errno.ELOOP}


@dataclass(frozen=True, slots=True)
class _Directory:
    """What is given to a directory when nothing is put into it any more."""

    metadata: Metadata
    xattrs: dict[str, bytes] = field(default_factory=dict)


def check_archive(path: str) -> None:
    """Raises SourcePathInvalid unless there is a readable file at `path`."""
    if not os.path.isfile(path) or not os.access(path, os.R_OK):
        raise SourcePathInvalid(f"{path} is no readable file", path=path)


def unpack_tree(
    path: str, target_dir: str, bytes_max: int, on_bytes: Callable[[int], None]
) -> CopyReport:
    """Unpacks the tar archive at `path` into the empty directory `target_dir`.

    Blocks; `on_bytes` is called in this thread with what was written. Raises ArchiveInvalid,
    which names the entry, InsufficientStorage where it holds more than `bytes_max`, OSError. What
    was unpacked until then stays.
    """
    with open_archive(path, bytes_max) as archive, closing(open_root(target_dir)) as root:
        unpacking = _Unpacking(archive, root, on_bytes)
        for member in archive.members():
            unpacking.add(member)
        unpacking.finish()
        return unpacking.report()


class _Unpacking:
    """One archive on its way into the open directory `root`."""

    def __init__(self, archive: Archive, root: int, on_bytes: Callable[[int], None]) -> None:
        self._archive = archive
        self._root = root
        self._on_bytes = on_bytes
        self._directories = {b"": _Directory(_IMPLIED)}
        self._files = 0
        self._copied_bytes = 0
        self._dropped: dict[str, int] = {}

    def report(self) -> CopyReport:
        """What was done."""
        return CopyReport(self._files, self._copied_bytes, 0, self._dropped)

    def add(self, member: tarfile.TarInfo) -> None:
        """One entry."""
        with self._naming(member.name):
            names = _components(member.name)
            if len(names) > DEPTH_MAX or len(b"/".join(names)) > PATH_BYTES_MAX:
                raise self._archive.refuse(member.name, "lies too deep")
            metadata = _metadata(member)
            if member.isdir():
                self._directory(member, names, metadata)
            elif not names:
                raise self._archive.refuse(member.name, "is the root, and no directory")
            elif member.isreg():
                with closing(self._enter(names[:-1])) as parent:
                    self._file(member, parent, names, metadata)
            elif member.islnk():
                self._hard_link(member, names)
            else:
                with closing(self._enter(names[:-1])) as parent:
                    self._special(member, parent, names, metadata)

    def finish(self) -> None:
        """Gives the directories what is theirs, the deepest first: nothing changes in one that
        has its time."""
        for path in sorted(self._directories, reverse=True):
            given = self._directories[path]
            with closing(open_beneath(self._root, path)) as directory:
                set_metadata(directory, given.metadata)
                self._set_xattrs(directory, given.xattrs)

    def _enter(self, names: Sequence[bytes], *, make: bool = True) -> int:
        """The directory at this path, opened; what is missing of it is made."""
        held = os.dup(self._root)
        path = b""
        for name in names:
            path = join(path, name)
            with closing(held):
                try:
                    held = open_directory(held, name)
                except FileNotFoundError:
                    if not make:
                        raise
                    os.mkdir(name, 0o700, dir_fd=held)
                    self._directories[path] = _Directory(_IMPLIED)
                    held = open_directory(held, name)
        return held

    def _directory(
        self, member: tarfile.TarInfo, names: Sequence[bytes], metadata: Metadata
    ) -> None:
        path = b"/".join(names)
        if path not in self._directories:
            with closing(self._enter(names[:-1])) as parent:
                self._clear(parent, names)
                os.mkdir(names[-1], 0o700, dir_fd=parent)
        self._directories[path] = _Directory(metadata, _xattrs(member))

    def _clear(self, parent: int, names: Sequence[bytes]) -> None:
        """Takes away what stands where an entry goes."""
        try:
            there = os.stat(names[-1], dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return
        if modes.S_ISDIR(there.st_mode):
            os.rmdir(names[-1], dir_fd=parent)
            del self._directories[b"/".join(names)]
        else:
            os.unlink(names[-1], dir_fd=parent)

    def _file(
        self, member: tarfile.TarInfo, parent: int, names: Sequence[bytes], metadata: Metadata
    ) -> None:
        self._clear(parent, names)
        with closing(create_file(parent, names[-1])) as file:
            for piece in self._archive.content(member):
                self._write(file, piece)
            os.ftruncate(file, member.size)
            set_metadata(file, metadata)
            self._set_xattrs(file, _xattrs(member))
        self._files += 1

    def _write(self, file: int, piece: Piece) -> None:
        offset, data = piece
        write_sparse(file, data, offset)
        self._copied_bytes += len(data)
        self._on_bytes(len(data))

    def _hard_link(self, member: tarfile.TarInfo, names: Sequence[bytes]) -> None:
        of = _components(member.linkname)
        try:
            with closing(self._enter(of[:-1], make=False)) as source:
                self._link(source, of, names)
        except (FileNotFoundError, IndexError):
            why = f"is a link to {shown(member.linkname)}, which is not there"
            raise self._archive.refuse(member.name, why) from None

    def _link(self, source: int, of: Sequence[bytes], names: Sequence[bytes]) -> None:
        there = os.stat(of[-1], dir_fd=source, follow_symlinks=False)
        if list(of) == list(names):
            return  # GNU tar writes that of a file that it is told of twice
        if modes.S_ISDIR(there.st_mode):
            raise IsADirectoryError(errno.EISDIR, "is a link to a directory")
        with closing(self._enter(names[:-1])) as parent:
            self._clear(parent, names)
            os.link(of[-1], names[-1], src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)

    def _special(
        self, member: tarfile.TarInfo, parent: int, names: Sequence[bytes], metadata: Metadata
    ) -> None:
        self._clear(parent, names)
        name = names[-1]
        if member.issym():
            os.symlink(_encoded(member.linkname), name, dir_fd=parent)
        elif member.isfifo():
            os.mkfifo(name, 0o600, dir_fd=parent)
        elif not (member.ischr() or member.isblk()):
            raise self._archive.refuse(member.name, f"is of an unknown kind, {member.type!r}")
        elif not self._device(member, parent, name):
            return
        set_metadata_at(parent, name, metadata, has_mode=not member.issym())

    def _device(self, member: tarfile.TarInfo, parent: int, name: bytes) -> bool:
        kind = modes.S_IFCHR if member.ischr() else modes.S_IFBLK
        device = os.makedev(member.devmajor, member.devminor)
        try:
            os.mknod(name, kind | 0o600, device, dir_fd=parent)
        except PermissionError:
            self._drop("device")
            return False
        return True

    def _set_xattrs(self, descriptor: int, xattrs: dict[str, bytes]) -> None:
        for name, value in xattrs.items():
            try:
                os.setxattr(descriptor, name, value)
            except OSError as error:
                if error.errno in _OURS:
                    raise
                self._drop("xattr")

    def _drop(self, kind: str) -> None:
        self._dropped[kind] = self._dropped.get(kind, 0) + 1

    @contextlib.contextmanager
    def _naming(self, name: str) -> Iterator[None]:
        """Names the entry in what its names, numbers and place make impossible."""
        try:
            yield
        except OSError as error:
            if error.errno in _OURS:
                raise
            through = "leads through what is no directory"
            why = through if error.errno in _NO_DIRECTORY else f"{error.strerror}"
            raise self._archive.refuse(name, why) from error
        except (ValueError, ArithmeticError) as error:
            raise self._archive.refuse(name, str(error)) from error


def _components(name: str) -> list[bytes]:
    """The names that lead to an entry from the root; none for the root itself."""
    encoded = _encoded(name)
    if not encoded:
        raise ValueError("has no name")
    if encoded.startswith(b"/"):
        raise ValueError("has an absolute name")
    names = [part for part in encoded.split(b"/") if part not in {b"", b"."}]
    if b".." in names:
        raise ValueError("has a name that leads upwards")
    return names


def _encoded(name: str) -> bytes:
    encoded = name.encode("utf-8", "surrogateescape")
    if b"\0" in encoded:
        raise ValueError("has a name with a zero byte")
    return encoded


def _metadata(member: tarfile.TarInfo) -> Metadata:
    if not (0 <= member.uid <= _OWNER_MAX and 0 <= member.gid <= _OWNER_MAX):
        raise ValueError("has an owner that there cannot be")
    return Metadata(member.mode & 0o7777, member.uid, member.gid, _mtime_ns(member))


def _mtime_ns(member: tarfile.TarInfo) -> int:
    """To the nanosecond, where it is given so: `mtime` is a float then."""
    with contextlib.suppress(ArithmeticError):  # also the comparison's, of what is no number
        seconds = Decimal(member.pax_headers.get("mtime", member.mtime))
        if abs(seconds) < _SECONDS_MAX:
            return int(seconds * _NS)
    raise ValueError("has a time that there cannot be")


def _xattrs(member: tarfile.TarInfo) -> dict[str, bytes]:
    return {
        name.removeprefix(_XATTR): value.encode("utf-8", "surrogateescape")
        for name, value in member.pax_headers.items()
        if name.startswith(_XATTR)
    }
