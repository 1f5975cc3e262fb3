"""The index: nothing that a later write could hide behind is trusted."""

from __future__ import annotations

import os
from pathlib import Path

from transfer.tree.descriptor import closing, open_root
from transfer.tree.index import build_index, dump_index, load_index, probe
from transfer.tree.manifest import Manifest
from transfer.tree.scan import Row, TreeScan


def scanned(root: Path) -> tuple[Manifest, list[Row]]:
    scan = TreeScan()
    with closing(open_root(str(root))) as descriptor:
        return scan.run(descriptor), scan.rows


def test_a_file_as_young_as_the_probe_is_not_trusted(tmp_path: Path) -> None:
    root = tmp_path.stat()
    rows = [Row(root.st_dev, number, 1000 + number, b"%d" % number) for number in range(4)]
    assert set(build_index("1", root, 1002, rows).rows) == {0, 1}


def test_a_file_of_another_filesystem_is_not_trusted(tmp_path: Path) -> None:
    root = tmp_path.stat()
    assert build_index("1", root, 9, [Row(root.st_dev + 1, 5, 1, b"a")]).rows == {}


def test_what_is_written_after_a_probe_is_not_older(tmp_path: Path) -> None:
    for number in range(200):
        before = tmp_path / f"before-{number}"
        before.touch()
        touched_ns = probe(str(tmp_path / "probe"), in_use=True)
        after = tmp_path / f"after-{number}"
        after.touch()
        assert before.stat().st_ctime_ns <= touched_ns <= after.stat().st_ctime_ns
    assert not (tmp_path / "probe").exists()


def test_an_unchanged_file_is_known_and_a_changed_one_is_not(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for name in ("same", "written", "moved", "chmod"):
        (root / name).write_bytes(name.encode())
    manifest, rows = scanned(root)
    index = build_index("1", root.stat(), probe(str(tmp_path / "probe"), in_use=True) + 1, rows)
    (root / "written").write_bytes(b"WRITTEN")
    (root / "directory").mkdir()
    (root / "moved").rename(root / "directory" / "moved")
    (root / "chmod").chmod(0o600)
    (root / "new").write_bytes(b"same")

    def knows(name: str) -> bool:
        return index.known(manifest, name.encode(), (root / name).lstat()) is not None

    assert knows("same")
    assert not any(knows(name) for name in ("written", "directory/moved", "chmod", "new"))


def test_an_index_survives_its_file_and_a_damaged_one_is_none(tmp_path: Path) -> None:
    root = tmp_path.stat()
    index = build_index("123", root, 9, [Row(root.st_dev, 2**63, 1, os.fsencode("ä" * 200))])
    path = tmp_path / "index"
    path.write_bytes(dump_index(index))
    assert load_index(str(path)) == index
    for damaged in (b"", b"x", dump_index(index)[:-1], b"y" + dump_index(index)):
        path.write_bytes(damaged)
        assert load_index(str(path)) is None
    path.unlink()
    assert load_index(str(path)) is None
