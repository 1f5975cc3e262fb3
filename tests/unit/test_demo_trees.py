"""The demo's judge: it must see every kind of difference, and weigh what it changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest

from daemon.demo import trees

EXACT_NS = 1
SECONDS_NS = 1_000_000_000


def make(root: Path) -> Path:
    for directory in ("lib/json", "etc", "var"):
        (root / directory).mkdir(parents=True)
    for number in range(60):
        (root / f"lib/m{number:02}.py").write_text(f"x = {number}\n" * 50)
    (root / "lib/json/tool.py").write_text("tool\n")
    (root / "etc/hostname").write_text("source\n")
    (root / "link").symlink_to("lib")
    for path in sorted(root.rglob("*"), reverse=True):
        os.utime(path, ns=(5 * SECONDS_NS, 5 * SECONDS_NS), follow_symlinks=False)
    os.utime(root, ns=(5 * SECONDS_NS, 5 * SECONDS_NS))
    return root


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return make(tmp_path / "one"), make(tmp_path / "other")


def found(pair: tuple[Path, Path], mtime_ns: int = EXACT_NS) -> list[str]:
    return trees.differences(str(pair[0]), str(pair[1]), mtime_ns, Event())


def keeping_times(path: Path, change: Callable[[], object]) -> None:
    """A change that no time tells of."""
    around = [path.parent, path]
    times = [(one, one.lstat()) for one in around if one.is_symlink() or one.exists()]
    change()
    for one, state in times:
        if one.is_symlink() or one.exists():
            os.utime(one, ns=(state.st_atime_ns, state.st_mtime_ns), follow_symlinks=False)


def test_equal_trees_have_no_differences(pair: tuple[Path, Path]) -> None:
    assert found(pair) == []


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("lib/m00.py", lambda path: path.write_text("y" + path.read_text()[1:])),
        ("lib/m00.py", lambda path: path.chmod(0o600)),
        ("lib/m00.py", lambda path: path.unlink()),
        ("lib/new.py", lambda path: path.write_text("")),
        ("lib/empty", lambda path: path.mkdir()),
        ("lib/json", lambda path: path.chmod(0o700)),
        ("link", lambda path: (path.unlink(), path.symlink_to("etc"))),
        ("lib/m00.py", lambda path: (path.unlink(), path.symlink_to("m01.py"))),
    ],
)
def test_every_planted_difference_is_seen(
    pair: tuple[Path, Path], path: str, change: Callable[[Path], object]
) -> None:
    planted = pair[1] / path
    keeping_times(planted, lambda: change(planted))
    assert found(pair) == [path]


def test_times_count_in_what_the_backend_can_hold(pair: tuple[Path, Path]) -> None:
    os.utime(pair[1] / "lib/json", ns=(0, 5 * SECONDS_NS + 1))
    assert found(pair, SECONDS_NS) == []
    assert found(pair, EXACT_NS) == ["lib/json"]
    os.utime(pair[1], ns=(0, 6 * SECONDS_NS))
    assert found(pair, SECONDS_NS) == ["."]


def test_a_copys_own_identity_is_no_difference(pair: tuple[Path, Path]) -> None:
    planted = pair[1] / "etc/hostname"
    keeping_times(planted, lambda: planted.write_text("copy\n"))
    assert found(pair) == []


def test_the_change_has_new_changed_deleted_and_renamed_files(pair: tuple[Path, Path]) -> None:
    weight = trees.change(str(pair[1]))
    seen = set(found(pair))
    assert {"etc/new-0.conf", "var/data.bin", "lib/m00.py"} <= seen
    assert not (pair[1] / "lib/m35.py").exists()
    assert (pair[1] / "lib/renamed-m45.py").read_text() == (pair[0] / "lib/m45.py").read_text()
    assert (pair[1] / "lib/json-renamed/tool.py").exists()
    incompressible = (pair[1] / "var/data.bin").stat().st_size
    assert incompressible < weight < incompressible + (64 << 10), "renames weigh nothing"
