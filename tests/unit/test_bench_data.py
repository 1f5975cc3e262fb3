"""The benchmarks' data: the same bytes for every tool, of the kind that they claim to be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import zstandard

from benchmarks import data

SIZE_BYTES = 3 << 20


def _content(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def _ratio(content: dict[str, bytes]) -> float:
    whole = b"".join(content.values())
    return len(whole) / len(zstandard.ZstdCompressor(level=1).compress(whole))


@pytest.mark.parametrize("kind", data.KINDS)
def test_a_tree_is_the_same_each_time(tmp_path: Path, kind: str) -> None:
    trees = [tmp_path / name for name in ("one", "two")]
    sizes = [data.make_tree(str(tree), kind, SIZE_BYTES) for tree in trees]
    one, two = map(_content, trees)
    assert one == two
    assert sizes[0] == sizes[1] == sum(map(len, one.values()))
    assert SIZE_BYTES / 2 < sizes[0] <= SIZE_BYTES


def test_kinds_compress_as_they_are_named(tmp_path: Path) -> None:
    ratios = {}
    for kind in data.KINDS:
        data.make_tree(str(tmp_path / kind), kind, SIZE_BYTES)
        ratios[kind] = _ratio(_content(tmp_path / kind))
    assert ratios[data.INCOMPRESSIBLE] < 1.01
    assert 1.3 < ratios[data.SYSTEM] < 10
    assert ratios[data.COMPRESSIBLE] > 10


@pytest.mark.parametrize("kind", data.KINDS)
def test_a_change_is_of_the_share_that_is_asked_for(tmp_path: Path, kind: str) -> None:
    tree = tmp_path / "tree"
    data.make_tree(str(tree), kind, SIZE_BYTES)
    before = _content(tree)
    wanted = data.change(str(tree), data.files_of(str(tree)), kind, 0.1, 7)
    after = _content(tree)
    assert wanted == int(sum(map(len, before.values())) * 0.1)
    assert before.keys() == after.keys()
    assert [len(one) for one in before.values()] == [len(one) for one in after.values()]
    differ = sum(a != b for name in before for a, b in zip(before[name], after[name], strict=True))
    assert 0 < differ <= wanted


def test_changes_of_two_seeds_differ(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    data.make_tree(str(tree), data.INCOMPRESSIBLE, SIZE_BYTES)
    contents = []
    for seed in (1, 2):
        data.change(str(tree), data.files_of(str(tree)), data.INCOMPRESSIBLE, 0.01, seed)
        data.nudge(str(tree), seed)
        contents.append(_content(tree))
    assert contents[0] != contents[1]
    assert os.path.getsize(tree / "etc" / "nudged") == 64


def test_files_grow_by_what_is_missing(tmp_path: Path) -> None:
    whole, grown = tmp_path / "whole", tmp_path / "grown"
    size_bytes, less_bytes = 3 * data.FILE_BYTES + 70_000, data.FILE_BYTES + 5_000
    for tree in (whole, grown):
        tree.mkdir()
    data.write_files(str(whole), data.INCOMPRESSIBLE, size_bytes, 1)
    data.write_files(str(grown), data.INCOMPRESSIBLE, less_bytes, 1)
    first = os.stat(grown / "data-0.bin").st_mtime_ns
    data.write_files(str(grown), data.INCOMPRESSIBLE, size_bytes, 1, less_bytes)
    assert os.stat(grown / "data-0.bin").st_mtime_ns == first
    assert _content(grown) == _content(whole)
