"""Tar archives for tests: honest ones of a tree, and whatever a hostile hand would write."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import zstandard

Entry = tuple[tarfile.TarInfo, bytes]

COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "xz": lzma.compress,
}


def file(name: str, content: bytes = b"content", **fields: object) -> Entry:
    return entry(name, tarfile.REGTYPE, content, **fields)


def directory(name: str, **fields: object) -> Entry:
    return entry(name, tarfile.DIRTYPE, **{"mode": 0o755, **fields})


def symlink(name: str, target: str) -> Entry:
    return entry(name, tarfile.SYMTYPE, linkname=target)


def hard_link(name: str, target: str) -> Entry:
    return entry(name, tarfile.LNKTYPE, linkname=target)


def device(name: str, major: int = 1, minor: int = 3, **fields: object) -> Entry:
    return entry(name, tarfile.CHRTYPE, devmajor=major, devminor=minor, **fields)


def entry(name: str, kind: bytes, content: bytes = b"", **fields: object) -> Entry:
    """Any entry, its fields given as tarfile names them."""
    info = tarfile.TarInfo(name)
    info.type = kind
    info.size = len(content)
    info.uid, info.gid = os.geteuid(), os.getegid()
    info.mtime = 1_600_000_000
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def archive(entries: Iterable[Entry], headers: Mapping[str, str] | None = None) -> bytes:
    """A whole archive of these entries; `headers` are global ones."""
    buffer = io.BytesIO()
    with tarfile.open(
        fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, pax_headers=dict(headers or {})
    ) as made:
        for info, content in entries:
            made.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def archive_of(tree: Path) -> bytes:
    """An archive of all that is in a directory, and of itself as `./`; times to the nanosecond."""
    argv = ["tar", "-c", "--format=pax", "--numeric-owner", "-C", str(tree), "."]
    return subprocess.run(argv, check=True, capture_output=True).stdout
