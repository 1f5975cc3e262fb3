"""The benchmarks' files and their page: nothing is lost on the way, and what was missed is told."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from benchmarks import page, results
from benchmarks.results import Part, Plot, Series, Table
from tests.house import tidy

PNG = b"\x89PNG\r\n\x1a\n"


def _part(name: str) -> Part:
    line = Series("copies", [1.0, 2.0], [3.0, 5.0])
    bars = Series("syncs", ["here", "there"], [3.0, 5.0], [2.0, 4.0], [4.0, 9.0])
    return Part(
        name,
        "Copy timing",
        Table("Ceilings", ["what", "", "how"], [["disk, MiB/s", 512.3456, "fsync"]]),
        [Table("zfs | dir", ["", "s"], [["a|b", 0.25]], "A note.")],
        [Plot("by-size", "By size", "GB", "s", [line]), Plot("bars", "Bars", "", "s", [bars])],
        {"no_change_seconds": 0.75, "downtime_seconds": 0.01},
        {"no_change_seconds": "the snapshot took 0.7 s"},
        ["It ran."],
    )


def test_a_part_is_read_as_it_was_kept(tmp_path: Path) -> None:
    part = _part("copy")
    results.keep(tmp_path / "new", part, 12.34, quick=True)
    kept = results.read(tmp_path / "new", "copy")
    assert kept is not None
    assert (kept.seconds, kept.quick) == (12.3, True)
    # JSON has no tuples; beside that it is the same.
    assert json.dumps(asdict(kept.part)) == json.dumps(asdict(part))


def test_a_part_that_was_never_measured_is_none(tmp_path: Path) -> None:
    assert results.read(tmp_path, "copy") is None


def test_the_page_has_ceilings_tables_pictures_and_what_was_missed(tmp_path: Path) -> None:
    results.keep(tmp_path, _part("copy"), 1.0, quick=False)
    path = page.write(tmp_path)
    text = path.read_text(encoding="utf-8")
    assert "| disk, MiB/s | 512 | fsync |" in text
    assert text.index("**Ceilings**") < text.index("**zfs | dir**")
    assert "| a\\|b | 0.250 |" in text
    assert "A note." in text
    assert "- It ran." in text
    assert "| sync without a change | at most 0.500 s | 0.750 s | **missed** |" in text
    assert "- **Missed:** sync without a change. the snapshot took 0.7 s" in text
    assert "| away during a sync (the switch), zfs | at most 1.00 s | 0.0100 s | met |" in text
    assert "not measured" in text
    assert "--quick" not in text
    for name in ("by-size", "bars"):
        assert f"(copy-{name}.png)" in text
        assert (tmp_path / f"copy-{name}.png").read_bytes().startswith(PNG)
    assert not list(tidy.links(tmp_path, ["README.md"]))


def test_the_page_says_what_was_tried_for_what_was_missed(tmp_path: Path) -> None:
    part = _part("peers")
    part.facts = {"full_system_against_pipe": 1.05, "full_system_against_syncoid": 2.0}
    part.profiles = {"full_system_against_pipe": "It took 2 s."}
    results.keep(tmp_path, part, 1.0, quick=False)
    text = page.write(tmp_path).read_text(encoding="utf-8")
    (line,) = (line for line in text.splitlines() if line.startswith("- **Missed:**"))
    assert "the hand-made pipe. It took 2 s. Tried, and kept: " in line


def test_the_page_of_a_quick_run_says_so(tmp_path: Path) -> None:
    results.keep(tmp_path, _part("peers"), 1.0, quick=True)
    assert "the figures mean nothing" in page.write(tmp_path).read_text(encoding="utf-8")
