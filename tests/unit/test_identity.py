"""A container's own identity in a tree as most have it; test_identity_traps.py has the others."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import asyncssh
import pytest

from daemon import keys
from daemon.actions.identity import (
    IDENTITY_PATHS,
    HostKey,
    Identity,
    put_identity,
    read_host_keys,
)
from transfer import rootfs

OWN = Identity("copy-one", "ssh-ed25519 AAAA own")
Record = tuple[object, ...]


@pytest.fixture(params=["kernel", "walk"], autouse=True)
def resolver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "walk":
        monkeypatch.setattr(rootfs, "_SYS_OPENAT2", None)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A server with one container's tree on it."""
    tree = tmp_path / "server/tree"
    (tree / "etc/ssh").mkdir(parents=True)
    (tree / "root/.ssh").mkdir(parents=True)
    (tree / "usr/lib").mkdir(parents=True)
    (tree / "usr/lib/file").write_text("a file")
    (tree / "etc/hostname").write_text("source\n")
    (tree / "etc/machine-id").write_text("a" * 32 + "\n")
    (tree / "etc/ssh/sshd_config").write_text("# none\n")
    (tree / "root/.ssh/authorized_keys").write_text("ssh-ed25519 AAAA source\n")
    (tree / "root/.ssh/config").write_text("# none\n")
    server = tree.parent / "etc"
    (server / "ssh").mkdir(parents=True)
    for name in ("hostname", "machine-id", "ssh/ssh_host_ed25519_key", "authorized_keys"):
        (server / name).write_text("the server's\n")
    return tree


def _plant_host_keys(tree: Path, *kinds: str) -> None:
    for kind in kinds:
        pair = keys.generate("source", kind)
        private = tree / f"etc/ssh/ssh_host_{kind}_key"
        private.write_text(pair.private_text)
        private.chmod(0o600)
        private.with_suffix(".pub").write_text(pair.public_text)


def _records(top: Path) -> dict[str, Record]:
    """Everything that a stat and a read can see of a tree, but access and change times."""
    found: dict[str, Record] = {}
    for path in [top, *top.rglob("*")]:
        at = path.lstat()
        content: object = None
        if stat.S_ISREG(at.st_mode):
            content = path.read_bytes()
        elif stat.S_ISLNK(at.st_mode):
            content = os.readlink(path)
        found[str(path.relative_to(top))] = (
            at.st_mode,
            at.st_uid,
            at.st_gid,
            at.st_mtime_ns,
            at.st_nlink,
            at.st_ino,
            content,
        )
    return found


def _others(top: Path) -> dict[str, Record]:
    return {name: record for name, record in _records(top).items() if name not in IDENTITY_PATHS}


def test_everything_of_its_own_and_nothing_else_changes(tree: Path) -> None:
    _plant_host_keys(tree, "ed25519", "rsa")
    for path in (tree / "etc", tree / "etc/ssh", tree / "root", tree / "root/.ssh"):
        os.utime(path, ns=(1_000_000_007, 2_000_000_003))
    before, keys_before = _others(tree), read_host_keys(str(tree))
    made = (tree / "root/.ssh").stat()

    put_identity(str(tree), OWN)

    assert _others(tree) == before
    assert (tree / "etc/hostname").read_text() == "copy-one\n"
    assert (tree / "etc/machine-id").read_bytes() == b""
    assert (tree / "root/.ssh/authorized_keys").read_text() == "ssh-ed25519 AAAA own\n"
    assert (tree / "root/.ssh").stat().st_mtime_ns == made.st_mtime_ns
    after = read_host_keys(str(tree))
    assert [key.kind for key in after] == ["ed25519", "rsa"]
    for key, old in zip(after, keys_before, strict=True):
        assert key.private != old.private
        private = asyncssh.import_private_key(key.private)
        assert private.export_public_key().split()[:2] == key.public.split()[:2]


def test_host_keys_only_of_the_kinds_that_the_source_had(tree: Path) -> None:
    put_identity(str(tree), OWN)
    assert os.listdir(tree / "etc/ssh") == ["sshd_config"]
    _plant_host_keys(tree, "ecdsa")
    put_identity(str(tree), OWN)
    assert sorted(os.listdir(tree / "etc/ssh")) == [
        "ssh_host_ecdsa_key",
        "ssh_host_ecdsa_key.pub",
        "sshd_config",
    ]


def test_host_keys_are_used_again(tree: Path) -> None:
    _plant_host_keys(tree, "ed25519", "ecdsa")
    own = HostKey("ed25519", b"own private", b"own public")
    unasked = HostKey("rsa", b"not put in", b"where no such key was")
    put_identity(str(tree), Identity("copy-one", None, (own, unasked)))
    first, second = read_host_keys(str(tree))
    assert first == own
    assert second.kind == "ecdsa"
    assert (tree / "root/.ssh/authorized_keys").read_text() == "ssh-ed25519 AAAA source\n"


def test_twice_is_as_once(tree: Path) -> None:
    before = _others(tree)
    put_identity(str(tree), OWN)
    put_identity(str(tree), OWN)
    assert _others(tree) == before
    assert (tree / "etc/hostname").read_text() == "copy-one\n"


def test_the_ssh_directory_is_made_where_root_is(tree: Path) -> None:
    (tree / "root/.ssh/config").unlink()
    (tree / "root/.ssh/authorized_keys").unlink()
    (tree / "root/.ssh").rmdir()
    os.utime(tree / "root", ns=(1_000_000_007, 2_000_000_003))
    put_identity(str(tree), OWN)
    made = (tree / "root/.ssh").stat()
    assert stat.S_IMODE(made.st_mode) == 0o700
    file = (tree / "root/.ssh/authorized_keys").stat()
    assert stat.S_IMODE(file.st_mode) == 0o600
    assert (tree / "root").stat().st_mtime_ns == 2_000_000_003


def test_no_machine_id_where_there_was_none(tree: Path) -> None:
    (tree / "etc/machine-id").unlink()
    put_identity(str(tree), OWN)
    assert not (tree / "etc/machine-id").exists()


def test_a_hard_link_to_the_server_is_cut_not_written(tree: Path) -> None:
    (tree / "etc/hostname").unlink()
    (tree / "etc/hostname").hardlink_to(tree.parent / "etc/hostname")
    put_identity(str(tree), OWN)
    assert (tree.parent / "etc/hostname").read_text() == "the server's\n"
    assert (tree / "etc/hostname").read_text() == "copy-one\n"
