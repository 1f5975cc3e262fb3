"""The suite in pieces over machines: each piece once, the worst status, and what hangs."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import cast

import pytest

from tests.openzfs import suite
from tests.openzfs.disks import ROOT
from tests.openzfs.machine import Machine

SECONDS = 60.0


class StandIn:
    """A machine in whose place a shell on this one runs `script`."""

    def __init__(self, script: str) -> None:
        self.asked: list[str] = []
        self.console = "the console"
        self._script = script

    def argv(self, shell_command: str) -> list[str]:
        self.asked.append(shell_command)
        return ["sh", "-c", self._script, "sh", *shell_command.split()]

    def run(self, *argv: str, seconds: float) -> str:
        raise subprocess.TimeoutExpired(argv, seconds)


def run(machines: list[StandIn], pieces: list[tuple[str, ...]], seconds: float = SECONDS) -> int:
    return suite.run_pieces(cast("list[Machine]", machines), pieces, seconds)


def test_each_piece_is_run_once_and_told_whole(capfd: pytest.CaptureFixture[str]) -> None:
    machines = [StandIn('echo "ran $*"'), StandIn('echo "ran $*"')]
    pieces = [(f"tests/{number}.py", "--more") for number in range(5)]
    assert run(machines, pieces) == 0
    asked = [command for machine in machines for command in machine.asked]
    said = capfd.readouterr().out
    for path, more in pieces:
        assert sum(command.endswith(f"{path} {more}") for command in asked) == 1
        assert f"openzfs: {path} {more}: status 0 after" in said
    assert said.count("\nran cd /root/project && env CI=true HOODY_TEST_ZFS=kernel") == len(pieces)


def test_the_worst_status_counts() -> None:
    fails = StandIn('case "$*" in *bad.py) exit 1 ;; esac')
    assert run([fails], [("good.py",), ("bad.py",), ("good.py",)]) == 1
    assert len(fails.asked) == 3


def test_a_piece_that_hangs_says_where(capfd: pytest.CaptureFixture[str]) -> None:
    hangs = StandIn("echo begun; exec sleep 60")
    assert run([hangs], [("hangs.py",)], 0.5) == suite.DEADLINE_STATUS
    said = capfd.readouterr()
    assert "begun" in said.out
    assert "not done after" in said.err
    assert "the console" in said.err


def test_they_run_side_by_side(tmp_path: Path) -> None:
    """Each waits for the other's file."""
    mark = f'name=$(echo "$*" | tail -c 2); cd {tmp_path}; : > "$name"'
    script = f"{mark}; until [ -e a ] && [ -e b ]; do sleep 0.01; done"
    assert run([StandIn(script), StandIn(script)], [("a",), ("b",)]) == 0


def test_every_piece_is_there_and_the_whole_contract() -> None:
    names = [name.partition("::") for piece in suite.pieces() for name in piece]
    for path, _, test in names:
        assert f"def {test}(" in (ROOT / path).read_text() if test else (ROOT / path).exists()
    files = [path for path, _, test in names if not test]
    assert len(files) == len(set(files))
    contract = {str(path.relative_to(ROOT)) for path in ROOT.glob("tests/contract/test_st*.py")}
    assert contract - set(files) == {"tests/contract/test_storage_zfs_mounting.py"}  # of zfs-fuse
    assert "tests/openzfs/inside" in files
