"""What a tenant may put where an identity goes, and how one sees that it did no harm.

`server` stands for the server's own filesystem, with one container's tree on it. Everything
outside the tree is the canary: all that whoever follows a link would read, write or add to.
"""

from __future__ import annotations

import os
import socket as sockets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PRIVATE = "etc/ssh/ssh_host_ed25519_key"
DIRECTORIES = ["etc", "etc/ssh", "root", "root/.ssh"]
FILES = ["etc/hostname", "etc/machine-id", PRIVATE, f"{PRIVATE}.pub", "root/.ssh/authorized_keys"]
SECRET = b"the server's"
HUGE_BYTES = 1 << 40  # of a hole
MADE_NS = 2_000_000_003

Plant = Callable[[Path, Path], None]
Record = tuple[object, ...]


def make_server(server: Path) -> None:
    """A server that has under each wrong name what a tree has under the right one."""
    for place, content in ((server / "tree", b"the tenant's"), (server, SECRET)):
        for directory in (*DIRECTORIES, "etc/.ssh", "usr"):
            (place / directory).mkdir(parents=True, exist_ok=True)
        names = [*FILES, "etc/authorized_keys", "etc/.ssh/authorized_keys", "etc/passwd"]
        for name in (*names, f"etc/{Path(PRIVATE).name}", f"etc/{Path(PRIVATE).name}.pub"):
            (place / name).write_bytes(content)
    for path in [*server.rglob("*"), server]:
        os.utime(path, ns=(MADE_NS, MADE_NS))


def records(top: Path) -> dict[str, Record]:
    """All that a stat and a read can see of a tree but access times, by the name's path."""
    found: dict[str, Record] = {}
    for path in [top, *top.rglob("*")]:
        at = path.lstat()
        content: object = None
        if stat.S_ISREG(at.st_mode) and at.st_size < HUGE_BYTES:
            content = path.read_bytes()
        elif stat.S_ISLNK(at.st_mode):
            content = os.readlink(path)
        # On some filesystems a directory's size is a count of what is in it.
        size_bytes = 0 if stat.S_ISDIR(at.st_mode) else at.st_size
        owner = (at.st_mode, at.st_uid, at.st_gid)
        found[str(path.relative_to(top))] = (at.st_mtime_ns, at.st_ino, *owner, size_bytes, content)
    return found


def canary(server: Path) -> dict[str, Record]:
    """Everything of the server but the tree; with the change times, which nobody can forge."""
    return {
        name: (*record, (server / name).lstat().st_ctime_ns)
        for name, record in records(server).items()
        if name.partition("/")[0] != "tree"
    }


@contextmanager
def untouched(server: Path, *own: str) -> Iterator[None]:
    """The canary stays as it is, and of the tree what is not among `own`."""
    tree = server / "tree"
    before = canary(server), records(tree)
    yield
    assert canary(server) == before[0]
    after = records(tree)
    for name in after.keys() | before[1].keys():
        if name not in own:
            assert after.get(name) == before[1].get(name), name


def emptied(path: Path) -> Path:
    """The path, with nothing there any more."""
    if path.is_dir():
        for entry in sorted(path.rglob("*"), reverse=True):
            (entry.rmdir if entry.is_dir() else entry.unlink)()
        path.rmdir()
    else:
        path.unlink()
    return path


def absolute(path: Path, server: Path) -> None:
    """A symlink to the server's /etc."""
    path.symlink_to(server / "etc")


def relative(path: Path, server: Path) -> None:
    """The same from below."""
    path.symlink_to(os.path.relpath(server / "etc", path.parent))


def same_name(path: Path, server: Path) -> None:
    """A symlink to the server's file of this very name."""
    path.symlink_to(server / path.relative_to(server / "tree"))


def upward(path: Path, _server: Path) -> None:
    """A symlink that leaves any tree."""
    path.symlink_to("../../..")


def to_itself(path: Path, _server: Path) -> None:
    """A symlink that never ends."""
    path.symlink_to(path.name)


def dangling(path: Path, server: Path) -> None:
    """A symlink to what only whoever follows it would make."""
    path.symlink_to(server / "etc/made")


def magic(path: Path, server: Path) -> None:
    """A way out through /proc."""
    path.symlink_to(f"/proc/self/root{server}/etc")


def inside(path: Path, server: Path) -> None:
    """A symlink that stays inside the tree, and yet is none of the paths of an identity."""
    path.symlink_to(os.path.relpath(server / "tree/usr", path.parent))


def fifo(path: Path, _server: Path) -> None:
    """Whoever opens it waits for ever."""
    os.mkfifo(path)


def to_fifo(path: Path, server: Path) -> None:
    """Whoever follows it waits for ever."""
    os.mkfifo(server / "fifo")
    path.symlink_to(server / "fifo")


def socket(path: Path, _server: Path) -> None:
    """A unix socket; bound by a short name, for an address has room for 107 bytes."""
    parent = os.open(path.parent, os.O_PATH)
    try:
        with sockets.socket(sockets.AF_UNIX) as one:
            one.bind(f"/proc/self/fd/{parent}/{path.name}")
    finally:
        os.close(parent)


def device(path: Path, _server: Path) -> None:
    """No driver has this number: whoever opens the node gets ENXIO, and fails."""
    os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(255, 255))


def file(path: Path, _server: Path) -> None:
    """No directory, and no file of ours."""
    path.write_text("a tenant's")


def hard_link(path: Path, server: Path) -> None:
    """Whoever writes into it writes another file of the container."""
    path.hardlink_to(server / "tree/etc/passwd")


def huge(path: Path, _server: Path) -> None:
    """More than fits into memory."""
    with path.open("wb") as hole:
        hole.truncate(HUGE_BYTES)


def odd_mode(path: Path, _server: Path) -> None:
    """Setuid, setgid, sticky."""
    path.write_text("anybody's")
    path.chmod(0o7755)


def no_mode(path: Path, _server: Path) -> None:
    """Nobody may read or write it."""
    path.write_text("nobody's")
    path.chmod(0)


needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="devices, mounts and what nobody may read need root"
)
NO_DIRECTORIES = [
    *(absolute, relative, upward, to_itself, dangling, magic, inside),
    *(fifo, to_fifo, socket, pytest.param(device, marks=needs_root), file),
]
NO_FILES_OF_OURS = [
    *(*NO_DIRECTORIES, same_name, hard_link, huge, odd_mode),
    pytest.param(no_mode, marks=needs_root),  # others could not even compare it
]
