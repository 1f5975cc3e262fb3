"""Copying and removing whole trees."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from tests.trees import listing, make_tree
from transfer.errors import StorageError
from transfer.tree.copy import CopyReport, copy_tree
from transfer.tree.remove import remove_tree
from transfer.tree.scan import DEPTH_MAX


def copy(source: Path, target: Path) -> CopyReport:
    target.mkdir()
    return copy_tree(str(source), str(target), lambda count: None)


def test_a_copy_is_equal_in_every_respect(tmp_path: Path) -> None:
    make_tree(tmp_path / "source")
    report = copy(tmp_path / "source", tmp_path / "target")
    assert listing(tmp_path / "target") == listing(tmp_path / "source")
    assert report.dropped == {}
    assert report.inconsistent_files == 0


def test_bytes_are_counted_once_for_hard_links(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_bytes(b"x" * 1000)
    os.link(source / "a", source / "b")
    counted: list[int] = []
    (tmp_path / "target").mkdir()
    report = copy_tree(str(source), str(tmp_path / "target"), counted.append)
    assert sum(counted) == report.copied_bytes == 1000
    assert (tmp_path / "target" / "a").stat().st_ino == (tmp_path / "target" / "b").stat().st_ino


def test_a_symlink_is_copied_not_followed(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (tmp_path / "secret").write_text("secret")
    (source / "link").symlink_to(tmp_path / "secret")
    (source / "directory").symlink_to(tmp_path)
    copy(source, tmp_path / "target")
    assert (tmp_path / "target" / "link").readlink() == tmp_path / "secret"
    assert (tmp_path / "target" / "directory").is_symlink()


def test_a_root_that_is_a_symlink_is_refused(tmp_path: Path) -> None:
    make_tree(tmp_path / "source")
    (tmp_path / "link").symlink_to(tmp_path / "source")
    (tmp_path / "target").mkdir()
    with pytest.raises(OSError):
        copy_tree(str(tmp_path / "link"), str(tmp_path / "target"), lambda count: None)


def test_sockets_are_left_out_and_reported(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(source / "socket"))
    assert copy(source, tmp_path / "target").dropped == {"socket": 1}
    assert list((tmp_path / "target").iterdir()) == []


def test_the_source_is_not_touched(tmp_path: Path) -> None:
    source = tmp_path / "source"
    make_tree(source)
    os.utime(source / "file", ns=(1, 2))
    before = (source / "file").stat()
    copy(source, tmp_path / "target")
    after = (source / "file").stat()
    assert (before.st_atime_ns, before.st_ctime_ns) == (after.st_atime_ns, after.st_ctime_ns)


def deep(path: Path, levels: int) -> None:
    path.mkdir()
    descriptor = os.open(path, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=descriptor)
        child = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = child
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
    os.close(descriptor)


def test_a_deep_tree_is_copied_and_too_deep_a_one_refused(tmp_path: Path) -> None:
    deep(tmp_path / "source", DEPTH_MAX - 1)
    copy(tmp_path / "source", tmp_path / "target")
    deep(tmp_path / "deeper", DEPTH_MAX)
    (tmp_path / "other").mkdir()
    opened = len(os.listdir("/proc/self/fd"))
    with pytest.raises(StorageError):
        copy_tree(str(tmp_path / "deeper"), str(tmp_path / "other"), lambda count: None)
    assert len(os.listdir("/proc/self/fd")) == opened
    for name in ("source", "target", "deeper", "other"):
        remove_tree(str(tmp_path / name))
    assert list(tmp_path.iterdir()) == []


def test_a_tree_of_any_depth_can_be_removed(tmp_path: Path) -> None:
    deep(tmp_path / "deep", 5000)
    remove_tree(str(tmp_path / "deep"))
    remove_tree(str(tmp_path / "deep"))
    assert list(tmp_path.iterdir()) == []


def test_removing_copes_with_modes_and_follows_nothing(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    tree = tmp_path / "tree"
    (tree / "locked" / "inner").mkdir(parents=True)
    (tree / "locked" / "inner" / "link").symlink_to(outside)
    (tree / ".removed-0").mkdir()
    (tree / "locked" / "inner").chmod(0)
    (tree / "locked").chmod(0)
    remove_tree(str(tree))
    assert not tree.exists()
    assert (outside / "kept").exists()
    assert stat.S_IMODE(outside.stat().st_mode) != 0
