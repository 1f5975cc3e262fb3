"""The comparison itself: it sees every kind of difference, or its silence says nothing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance import trees


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two equal trees."""
    source, target = tmp_path / "source", tmp_path / "target"
    trees.make(str(source), files=20, big_bytes=1000)
    subprocess.run(["cp", "-a", str(source), str(target)], check=True, timeout=60)
    trees.assert_equal(str(source), str(target), zfs=False)
    return source, target


def _content(tree: Path) -> None:
    seen = (tree / "srv/text").stat()
    with (tree / "srv/text").open("r+b") as file:
        file.write(b"A")
    os.utime(tree / "srv/text", ns=(seen.st_atime_ns, seen.st_mtime_ns))


def _extra(tree: Path) -> None:
    (tree / "srv/extra").touch()


def _missing(tree: Path) -> None:
    (tree / "var/empty").rmdir()


def _mode(tree: Path) -> None:
    (tree / "opt/a/tool").chmod(0o755)


def _time_of_a_file(tree: Path) -> None:
    os.utime(tree / "opt/a/nothing", ns=(0, trees.MADE_NS + 1))


def _time_of_a_directory(tree: Path) -> None:
    os.utime(tree / "etc", ns=(0, trees.MADE_NS - 1))


def _time_of_the_root(tree: Path) -> None:
    os.utime(tree, ns=(0, trees.MADE_NS + 1))


def _time_of_a_symlink(tree: Path) -> None:
    os.utime(tree / "opt/a/relative", ns=(0, 1), follow_symlinks=False)


def _symlink(tree: Path) -> None:
    (tree / "opt/a/dangling").unlink()
    (tree / "opt/a/dangling").symlink_to("elsewhere")


def _hard_link(tree: Path) -> None:
    linked = tree / "opt/a/b/linked"
    subprocess.run(["cp", "-p", str(linked), f"{linked}2"], check=True, timeout=60)
    os.rename(f"{linked}2", linked)


def _kind(tree: Path) -> None:
    (tree / "var/fifo").unlink()
    (tree / "var/fifo").touch()


DAMAGES = [
    _content,
    _extra,
    _missing,
    _mode,
    _time_of_a_file,
    _time_of_a_directory,
    _time_of_the_root,
    _time_of_a_symlink,
    _symlink,
    _hard_link,
    _kind,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_both_opinions_see_it(pair: tuple[Path, Path], damage: Callable[[Path], None]) -> None:
    source, target = pair
    damage(target)
    assert trees.differences(trees.walk(str(source)), trees.walk(str(target)))
    assert trees.rsync(str(source), str(target), zfs=False)


def test_identity_is_not_compared(pair: tuple[Path, Path]) -> None:
    source, target = pair
    seen = (target / "root").stat()
    (target / "etc/machine-id").write_bytes(b"")
    (target / "root/.ssh").mkdir(mode=0o700)
    (target / "root/.ssh/authorized_keys").write_text("own\n")
    os.utime(target / "root", ns=(seen.st_atime_ns, seen.st_mtime_ns))
    trees.assert_equal(str(source), str(target), zfs=False)


def test_a_made_tree_is_the_same_each_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        trees.make(str(tmp_path / name), seed=5, files=20)
    trees.assert_equal(str(tmp_path / "one"), str(tmp_path / "two"), zfs=False)
    for name in ("one", "two"):
        trees.change(str(tmp_path / name), seed=6)
    assert trees.rsync(str(tmp_path / "one"), str(tmp_path / "two"), zfs=False)  # times
