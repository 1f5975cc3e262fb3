"""Trees for tests: one with everything in it, and a listing that two equal trees share."""

from __future__ import annotations

import os
import stat
from pathlib import Path

Facts = tuple[object, ...]


def make_tree(root: Path) -> None:
    """A tree with one of each kind of thing that a rootfs has."""
    (root / "etc" / "empty").mkdir(parents=True)
    (root / "file").write_bytes(b"a file")
    (root / "etc" / "hosts").write_bytes(b"127.0.0.1 localhost\n")
    (root / "nothing").touch()
    (root / "big").write_bytes(os.urandom(700_000))
    (root / "sbin").mkdir()
    (root / "sbin" / "tool").write_bytes(b"#!")
    (root / "sbin" / "tool").chmod(0o4755)
    (root / "shadow").write_bytes(b"secret")
    (root / "shadow").chmod(0)
    os.link(root / "big", root / "etc" / "big-too")
    os.link(root / "file", root / "file.link")
    (root / "link").symlink_to("etc/hosts")
    (root / "dangling").symlink_to("/nowhere/at/all")
    (root / os.fsdecode(b"\xff\xfe bad utf-8")).write_bytes(b"named by bytes")
    os.mkfifo(root / "fifo", 0o620)
    with (root / "sparse").open("wb") as file:
        file.truncate(64 * 1024 * 1024)
        file.seek(10_000_000)
        file.write(b"data in a hole")
    (root / "etc").chmod(0o1777)
    for at, name in enumerate(("file", "etc/hosts", "sbin", "etc/empty", "etc")):
        os.utime(root / name, ns=(5, 1_600_000_000_000_000_001 + at))
    os.utime(root / "link", ns=(5, 1_500_000_000_123_456_789), follow_symlinks=False)
    os.utime(root, ns=(5, 1_400_000_000_000_000_007))


def listing(root: Path) -> dict[str, Facts]:
    """What is below a root, by relative path; hard links by the set of their names."""
    found: dict[str, Facts] = {}
    names: dict[int, list[str]] = {}
    paths = [root, *sorted(root.rglob("*"))]
    for path in paths:
        status = path.lstat()
        if stat.S_ISREG(status.st_mode):
            names.setdefault(status.st_ino, []).append(str(path.relative_to(root)))
    for path in paths:
        status = path.lstat()
        facts: Facts = (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns)
        if stat.S_ISLNK(status.st_mode):
            facts += (os.readlink(path),)
        elif stat.S_ISREG(status.st_mode):
            facts += (path.read_bytes(), tuple(names[status.st_ino]))
        found[str(path.relative_to(root))] = facts
    return found
