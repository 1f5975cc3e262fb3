"""The table of traps: whatever stands where an identity goes, it does the server no harm."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from daemon import keys
from daemon.actions.identity import (
    IDENTITY_PATHS,
    HostKey,
    Identity,
    put_identity,
    read_host_keys,
)
from tests import hostile
from tests.hostile import (
    DIRECTORIES,
    FILES,
    NO_DIRECTORIES,
    NO_FILES_OF_OURS,
    PRIVATE,
    SECRET,
    Plant,
    needs_root,
)
from tests.mounts import mounted
from transfer import rootfs

OWN = Identity(
    "copy-one", "ssh-ed25519 AAAA own", (HostKey("ed25519", b"own private", b"own public"),)
)
CONTENT = {
    "etc/hostname": b"copy-one\n",
    "etc/machine-id": b"",
    PRIVATE: b"own private",
    f"{PRIVATE}.pub": b"own public",
    "root/.ssh/authorized_keys": b"ssh-ed25519 AAAA own\n",
}
RACES = 400


@pytest.fixture(params=["kernel", "walk"], autouse=True)
def resolver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel has no openat2 all is as where it has."""
    if request.param == "walk":
        monkeypatch.setattr(rootfs, "_SYS_OPENAT2", None)


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """A server with a canary, and one container's tree on it."""
    hostile.make_server(tmp_path / "server")
    return tmp_path / "server"


def _contents(tree: Path) -> dict[str, bytes]:
    """The identity's files, where they are regular files in real directories."""
    found = {}
    for name in FILES:
        parents = [tree / parent for parent in Path(name).parents if (tree / parent).exists()]
        whole = all(stat.S_ISDIR(parent.lstat().st_mode) for parent in parents)
        if whole and (tree / name).is_file() and not (tree / name).is_symlink():
            found[name] = (tree / name).read_bytes()
    return found


def _keys_read(tree: Path) -> set[bytes]:
    return {half for key in read_host_keys(str(tree)) for half in (key.private, key.public)}


def _not_below(where: str) -> dict[str, bytes]:
    return {name: content for name, content in CONTENT.items() if not name.startswith(f"{where}/")}


@pytest.mark.parametrize("plant", NO_DIRECTORIES)
@pytest.mark.parametrize("where", DIRECTORIES)
def test_in_place_of_a_directory_it_is_left_alone(server: Path, where: str, plant: Plant) -> None:
    tree, own = server / "tree", _not_below(where)
    plant(hostile.emptied(tree / where), server)
    with hostile.untouched(server, *own):
        put_identity(str(tree), OWN)
        put_identity(str(tree), OWN)
        found = read_host_keys(str(tree))
    assert _contents(tree) == own
    assert found == (OWN.host_keys if PRIVATE in own else ())


@pytest.mark.parametrize("where", DIRECTORIES)
def test_only_the_ssh_directory_is_made_where_it_is_missing(server: Path, where: str) -> None:
    tree, own = server / "tree", _not_below(where)
    hostile.emptied(tree / where)
    made: set[str] = set()
    if where == "root/.ssh":
        own, made = CONTENT, {where}
    with hostile.untouched(server, *own, *made):
        put_identity(str(tree), OWN)
    assert _contents(tree) == own


@pytest.mark.parametrize("plant", NO_FILES_OF_OURS)
@pytest.mark.parametrize("where", FILES)
def test_in_place_of_a_file_it_is_replaced(server: Path, where: str, plant: Plant) -> None:
    tree = server / "tree"
    plant(hostile.emptied(tree / where), server)
    os.utime((tree / where).parent, ns=(hostile.MADE_NS, hostile.MADE_NS))
    with hostile.untouched(server):
        assert SECRET not in _keys_read(tree)
    with hostile.untouched(server, *CONTENT):
        put_identity(str(tree), OWN)
        put_identity(str(tree), OWN)
    mode = (tree / where).lstat().st_mode
    assert stat.S_ISREG(mode)
    assert mode & 0o7000 == 0
    assert _contents(tree) == CONTENT
    assert read_host_keys(str(tree)) == OWN.host_keys


@pytest.mark.parametrize("where", FILES)
def test_a_directory_in_place_of_a_file_stays(server: Path, where: str) -> None:
    """And with it the public half of a host key of which it is the private one."""
    tree = server / "tree"
    hostile.emptied(tree / where).mkdir()
    (tree / where / "below").write_text("a tenant's")
    stays = {PRIVATE, f"{PRIVATE}.pub"} if where == PRIVATE else {where}
    own = {name: content for name, content in CONTENT.items() if name not in stays}
    with hostile.untouched(server, *own):
        put_identity(str(tree), OWN)
        assert read_host_keys(str(tree)) == (() if where.startswith(PRIVATE) else OWN.host_keys)
    assert _contents(tree).items() >= own.items()


@pytest.mark.parametrize("mode", [0o555, 0o500, 0o1777, 0o2750, 0o6711])
@pytest.mark.parametrize("where", DIRECTORIES)
def test_a_directory_keeps_its_odd_mode(server: Path, where: str, mode: int) -> None:
    tree = server / "tree"
    (tree / where).chmod(mode)
    with hostile.untouched(server, *CONTENT):
        put_identity(str(tree), OWN)
        assert _contents(tree) == CONTENT


def _trapped_keys(server: Path, **plants: Plant) -> None:
    """Every kind of host key is a trap."""
    for kind, plant in plants.items():
        private = server / f"tree/etc/ssh/ssh_host_{kind}_key"
        private.unlink(missing_ok=True)
        plant(private, server)


def test_a_huge_or_special_host_key_is_not_read(server: Path) -> None:
    _trapped_keys(server, ed25519=hostile.huge, ecdsa=hostile.fifo, rsa=hostile.same_name)
    with hostile.untouched(server):
        assert read_host_keys(str(server / "tree")) == ()


def test_a_trap_makes_a_new_host_key(server: Path) -> None:
    """Each kind that the tree has a name for gets a key that is nobody else's."""
    _trapped_keys(server, ed25519=hostile.same_name, ecdsa=hostile.huge, rsa=hostile.fifo)
    with hostile.untouched(server, *IDENTITY_PATHS):
        put_identity(str(server / "tree"), Identity("copy-one", None))
    found = read_host_keys(str(server / "tree"))
    assert [key.kind for key in found] == list(keys.HOST_KEY_KINDS)
    assert all(b"OPENSSH PRIVATE KEY" in key.private for key in found)


def test_an_empty_tree_stays_empty(server: Path) -> None:
    tree = server / "empty"
    tree.mkdir()
    with hostile.untouched(server):
        put_identity(str(tree), OWN)
        assert read_host_keys(str(tree)) == ()


@needs_root
@pytest.mark.parametrize("where", DIRECTORIES)
def test_a_mount_in_place_of_a_directory_is_not_entered(server: Path, where: str) -> None:
    """Though it is a mount of the very filesystem that the tree lies on."""
    tree, own = server / "tree", _not_below(where)
    with hostile.untouched(server, *own), mounted(server / "etc", tree / where):
        put_identity(str(tree), OWN)
        found = read_host_keys(str(tree))
    assert found == (OWN.host_keys if PRIVATE in own else ())
    assert {name: (tree / name).read_bytes() for name in own} == own


@needs_root
@pytest.mark.parametrize("where", FILES)
def test_a_mount_in_place_of_a_file_fails_the_job(server: Path, where: str) -> None:
    tree = server / "tree"
    with hostile.untouched(server, *CONTENT), mounted(server / where, tree / where):
        with pytest.raises(OSError, match="busy") as caught:
            put_identity(str(tree), OWN)
        assert caught.value.errno == errno.EBUSY
        assert SECRET not in _keys_read(tree)


@needs_root
@pytest.mark.parametrize("where", ["etc", "etc/ssh", "root/.ssh"])
def test_an_immutable_directory_fails_the_job(server: Path, where: str) -> None:
    directory = server / "tree" / where
    with hostile.untouched(server, *CONTENT):
        if _chattr("+i", directory):
            pytest.skip("this filesystem has no immutable directories")
        try:
            with pytest.raises(PermissionError):
                put_identity(str(server / "tree"), OWN)
        finally:
            _chattr("-i", directory)


def _chattr(flag: str, path: Path) -> int:
    argv = ["chattr", flag, str(path)]
    return subprocess.run(argv, capture_output=True, check=False, timeout=20).returncode


# A process of its own: threads of one interpreter take turns, and would hardly ever hit a gap.
_SWAPPER = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
first, second = map(os.fsencode, sys.argv[1:])
assert libc.renameat2(here, first, here, second, exchange) == 0, ctypes.get_errno()
print("swapping", flush=True)
while True:
    libc.renameat2(here, first, here, second, exchange)
"""


@contextmanager
def _swapping(path: Path, other: Path) -> Iterator[None]:
    """The two change places, atomically, again and again while the body runs."""
    argv = [sys.executable, "-c", _SWAPPER, str(path), str(other)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as swapper:
        try:
            assert swapper.stdout is not None
            assert swapper.stdout.readline() == b"swapping\n"
            yield
        finally:
            swapper.kill()


@pytest.mark.parametrize("where", DIRECTORIES)
def test_a_directory_that_becomes_a_symlink_while_we_look(server: Path, where: str) -> None:
    tree, link = server / "tree", server / "tree/usr/link"
    link.symlink_to(os.path.relpath(server / "etc", (tree / where).parent))
    before = hostile.canary(server)
    with _swapping(tree / where, link):
        for number in range(RACES):
            put_identity(str(tree), Identity(f"copy-{number}", f"key {number}", OWN.host_keys))
            assert SECRET not in _keys_read(tree)
    assert hostile.canary(server) == before
    assert not [name for name in hostile.records(tree) if ".hoody-" in name]


@pytest.mark.parametrize("trap", ["symlink", "fifo"])
def test_a_host_key_that_becomes_a_trap_while_we_look(server: Path, trap: str) -> None:
    tree, other = server / "tree", server / "tree/usr/other"
    if trap == "fifo":
        os.mkfifo(other)
    else:
        other.symlink_to(server / PRIVATE)
    before = hostile.canary(server)
    with _swapping(tree / PRIVATE, other):
        for _ in range(RACES):
            assert SECRET not in _keys_read(tree)
    assert hostile.canary(server) == before
