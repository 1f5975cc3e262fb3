"""Trees for the acceptance tests: one that is made, one that is changed, and how two are compared.

Nothing here uses the product's own code but the list of identity paths: what it says of two trees
is a second opinion. Paths are bytes, for names need not be UTF-8.
"""

from __future__ import annotations

import hashlib
import os
import random
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from daemon.actions.identity import IDENTITY_PATHS

MADE_NS = 1_600_000_000_123_456_789
SSH_DIRECTORY = b"root/.ssh"
READ_BYTES = 1 << 20
_IDENTITY = frozenset(path.encode() for path in IDENTITY_PATHS)


@dataclass(frozen=True, slots=True)
class Entry:
    """What is compared of one name. `content` is a digest, a symlink's target or a device number;
    `linked` are the names that share a file's inode, where there are several."""

    kind: int
    mode: int
    owner: tuple[int, int]
    mtime: int
    size_bytes: int
    content: bytes
    linked: tuple[bytes, ...] = ()


def make(
    top: str,
    seed: int = 1,
    *,
    files: int = 200,
    big_bytes: int = 3 << 20,
    sparse_bytes: int = 32 << 20,
) -> None:
    """A tree with all that a root filesystem may hold; the same for the same seed."""
    at, rng = os.fsencode(top), random.Random(seed)
    for directory in (b"etc/ssh", b"root", b"var/empty", b"opt/a/b/c", b"home/\xff\xfe", b"srv"):
        os.makedirs(at + b"/" + directory)
    for number in range(files):
        directory = b"%s/opt/a/d%02d" % (at, number % 17)
        os.makedirs(directory, exist_ok=True)
        _write(b"%s/f%04d" % (directory, number), rng.randbytes(rng.randrange(4000)))
    _write(at + b"/srv/big", rng.randbytes(big_bytes))
    _write(at + b"/srv/text", b"a line that repeats itself\n" * 40_000)
    with open(at + b"/srv/sparse", "wb") as sparse:
        sparse.truncate(sparse_bytes)
        sparse.seek(sparse_bytes * 5 // 8)
        sparse.write(rng.randbytes(10_000))
    for name in (b"with space", b"new\nline", b"tab\t", b"\xe9 latin", b"-n", b"*", b"#", b"'\""):
        _write(at + b"/home/\xff\xfe/" + name, name)
    _write(at + b"/etc/hostname", b"source\n")
    _write(at + b"/etc/machine-id", b"0123456789abcdef0123456789abcdef\n")
    _write(at + b"/etc/shadow", b"root:*\n", 0o640)
    _write(at + b"/opt/a/tool", b"#!/bin/true\n", 0o4755)
    _write(at + b"/opt/a/secret", b"nobody reads this\n", 0o000)
    _write(at + b"/opt/a/nothing", b"")
    os.link(at + b"/srv/text", at + b"/opt/a/b/linked")
    os.link(at + b"/srv/text", at + b"/var/linked too")
    os.symlink(b"../../srv/text", at + b"/opt/a/relative")
    os.symlink(b"/etc/shadow", at + b"/opt/a/absolute")
    os.symlink(b"no/such/\xff", at + b"/opt/a/dangling")
    os.mkfifo(at + b"/var/fifo", 0o620)
    os.chmod(at + b"/var", 0o1777)
    os.chmod(at + b"/root", 0o700)
    if os.geteuid() == 0:
        os.chown(at + b"/opt/a/b", 1000, 1001)
        os.chown(at + b"/opt/a/relative", 1000, 1001, follow_symlinks=False)
        os.chown(at + b"/etc/shadow", 0, 42)
    for number, (path, _) in enumerate(_below(at)):
        times = (MADE_NS, MADE_NS + number * 1_000_000_007)
        os.utime(path, ns=times, follow_symlinks=False)
    os.utime(at, ns=(MADE_NS, MADE_NS))


def change(top: str, seed: int = 2) -> int:
    """What a day does to a tree of `make`: new, changed, deleted and renamed names, other modes.

    Returns the bytes of the files that are new or changed, whole files.
    """
    at, rng = os.fsencode(top), random.Random(seed)
    mark = b"%08x" % seed
    fresh = {
        at + b"/srv/new-" + mark: rng.randbytes(100_000),
        at + b"/home/\xff\xfe/new \xfe" + mark: mark,
        at + b"/opt/a/d00/f0000": rng.randbytes(5000),
        at + b"/opt/a/d01/f0001": b"",
    }
    for path, content in fresh.items():
        _write(path, content)
    with open(at + b"/srv/big", "r+b") as big:
        big.seek(rng.randrange(1 << 20))
        big.write(rng.randbytes(70_000))
    with open(at + b"/srv/text", "ab") as text:
        text.write(b"one line more, %s\n" % mark)
    for number in (3, 20):  # of two directories, so that both of their times change
        _remove(b"%s/opt/a/d%02d/f%04d" % (at, number % 17, number))
    os.rename(at + b"/opt/a/d04", at + b"/opt/a/d04-" + mark)
    os.rename(at + b"/opt/a/d04-" + mark, at + b"/opt/a/d04")
    os.rename(at + b"/opt/a/d05", at + b"/var/moved-" + mark)
    os.mkdir(at + b"/opt/a/d05")
    _write(at + b"/opt/a/d05/f0005", mark)
    _remove(at + b"/opt/a/dangling")
    os.symlink(b"elsewhere/" + mark, at + b"/opt/a/dangling")
    os.chmod(at + b"/opt/a/tool", 0o755 if seed % 2 else 0o750)
    os.utime(at + b"/opt/a/nothing", ns=(MADE_NS, MADE_NS + seed * 1_000_000_000))
    changed = [at + b"/srv/big", at + b"/srv/text", *fresh, at + b"/opt/a/d05/f0005"]
    return sum(os.lstat(path).st_size for path in changed)


def walk(top: str, granularity_ns: int = 1) -> dict[bytes, Entry]:
    """Every name below and with `top` (as `.`), by its relative path."""
    at = os.fsencode(top)
    found = {b".": os.lstat(at)}
    found |= {os.path.relpath(path, at): seen for path, seen in _below(at)}
    names: dict[int, list[bytes]] = {}
    for name, seen in found.items():
        if not stat.S_ISDIR(seen.st_mode) and seen.st_nlink > 1:
            names.setdefault(seen.st_ino, []).append(name)
    return {
        name: Entry(
            kind=stat.S_IFMT(seen.st_mode),
            mode=stat.S_IMODE(seen.st_mode),
            owner=(seen.st_uid, seen.st_gid),
            mtime=seen.st_mtime_ns // granularity_ns,
            size_bytes=seen.st_size if stat.S_ISREG(seen.st_mode) else 0,
            content=_content(os.path.join(at, name), seen),
            linked=tuple(sorted(names.get(seen.st_ino, ()))),
        )
        for name, seen in found.items()
    }


def differences(source: dict[bytes, Entry], target: dict[bytes, Entry]) -> list[str]:
    """One line for each name that two walks do not agree on, but for identity paths.

    `root/.ssh` itself may only differ where the source has none.
    """
    lines = []
    for name in sorted(source.keys() | target.keys()):
        if name in _IDENTITY and not (name == SSH_DIRECTORY and name in source):
            continue
        here, there = source.get(name), target.get(name)
        if here is None or there is None:
            lines.append(f"{name!r} is only in the {'source' if here else 'target'}")
        elif here != there:
            lines.append(f"{name!r}: {here} != {there}")
    return lines


def assert_equal(source: str, target: str, *, zfs: bool) -> None:
    """Both opinions, the walk's and rsync's, that the target is as the source is.

    zfs-fuse keeps times in whole seconds and has neither xattrs nor ACLs.
    """
    granularity_ns = 1_000_000_000 if zfs else 1
    found = differences(walk(source, granularity_ns), walk(target, granularity_ns))
    assert not found, "\n".join(found)
    said = rsync(source, target, zfs=zfs)
    assert not said, said


def rsync(source: str, target: str, *, zfs: bool) -> str:
    """What `rsync` would do to make the target as the source is; empty where it is."""
    excluded = set(IDENTITY_PATHS)
    if os.path.lexists(os.path.join(source, os.fsdecode(SSH_DIRECTORY))):
        excluded.remove(os.fsdecode(SSH_DIRECTORY))
    done = subprocess.run(
        [
            "rsync",
            "-aHn",
            *([] if zfs else ["-AX", "--modify-window=-1"]),
            "--delete",
            "--checksum",
            "--itemize-changes",
            *(f"--exclude=/{path}" for path in sorted(excluded)),
            f"{source}/",
            f"{target}/",
        ],
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode(errors="backslashreplace")


def _below(at: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    """Every name below a directory, deepest first, so that times can be set on the way."""
    with os.scandir(at) as listed:
        entries = sorted(listed, key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _below(entry.path)
        yield entry.path, os.lstat(entry.path)


def _content(path: bytes, seen: os.stat_result) -> bytes:
    if stat.S_ISLNK(seen.st_mode):
        return os.readlink(path)
    if stat.S_ISREG(seen.st_mode):
        digest = hashlib.sha256()
        with open(path, "rb") as file:
            while block := file.read(READ_BYTES):
                digest.update(block)
        return digest.digest()
    if stat.S_ISBLK(seen.st_mode) or stat.S_ISCHR(seen.st_mode):
        return b"%d" % seen.st_rdev
    return b""


def _write(path: bytes, content: bytes, mode: int = 0o644) -> None:
    with open(path, "wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), mode)


def _remove(path: bytes) -> None:
    if os.path.lexists(path):
        os.unlink(path)
