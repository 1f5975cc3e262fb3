"""What a dir storage's filesystem can do, found out by trying."""

from __future__ import annotations

import os
import secrets

from transfer.model import Traits
from transfer.tree.chunk import CHUNK_BYTES, reflink
from transfer.tree.descriptor import closing, create_file, open_root


def find_traits(root: str) -> Traits:
    """Tries reflinks, holes, extended attributes and times in a file of its own. Blocks."""
    names = [f".trait-{secrets.token_hex(8)}-{number}".encode() for number in range(2)]
    with closing(open_root(root)) as directory:
        try:
            with (
                closing(create_file(directory, names[0])) as source,
                closing(create_file(directory, names[1])) as target,
            ):
                os.pwrite(source, b"x", CHUNK_BYTES)
                os.utime(source, ns=(1, 1))
                return Traits(
                    kind="dir",
                    native=False,
                    reflink=reflink(source, target),
                    xattrs=_has_xattrs(source),
                    mtime_ns=1 if os.fstat(source).st_mtime_ns == 1 else 1_000_000_000,
                    seek_hole=_has_seek_hole(source),
                )
        finally:
            for name in names:
                os.unlink(name, dir_fd=directory)


def _has_xattrs(file: int) -> bool:
    try:
        os.setxattr(file, "user.hoody", b"x")
    except OSError:
        return False
    return True


def _has_seek_hole(file: int) -> bool:
    try:
        return os.lseek(file, 0, os.SEEK_DATA) > 0
    except OSError:
        return False
