"""`python -m benchmarks --quick`: its shortest part runs, and leaves files and a page."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import results, sshd, world

RUN_SECONDS = 300


def _missing() -> str | None:
    return world.why_not() or sshd.available()


@pytest.mark.zfs
def test_the_pipe_is_measured_from_end_to_end(tmp_path: Path) -> None:
    if (why := _missing()) is not None:
        assert os.environ.get("CI") != "true", why
        pytest.skip(why)
    output = tmp_path / "results"
    argv = [sys.executable, "-m", "benchmarks", "--quick", "--only", "pipe", "--output"]
    done = subprocess.run(
        [*argv, str(output)], capture_output=True, text=True, timeout=RUN_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    kept = results.read(output, "pipe")
    assert kept is not None
    assert kept.quick
    rates = next(table for table in kept.part.tables if table.title == "From memory to memory")
    assert len(rates.rows) == 5
    assert all(isinstance(cell, float) and cell > 0 for row in rates.rows for cell in row[1:])
    stages = [table for table in kept.part.tables if table.title.startswith("Where the time goes")]
    assert len(stages) == 2
    text = (output / "README.md").read_text(encoding="utf-8")
    assert "## The pipe alone" in text
    assert (output / "pipe-rates.png").stat().st_size > 1000


def test_an_unknown_part_is_refused() -> None:
    argv = [sys.executable, "-m", "benchmarks", "--only", "nothing"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "copy" in done.stderr
