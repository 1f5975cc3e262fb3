"""Where the machines' packages come from, and what is said when they cannot be had."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.openzfs import debian
from tests.openzfs.debian import Debian, NoPackages, chosen_suite

MIRROR = "http://mirror.invalid/debian"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose programs come before those of the machine."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def program(folder: Path, name: str, body: str) -> None:
    """A shell script in the place of a program."""
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)


def mirrors(folder: Path, *lines: str, update: str = "exit 0") -> None:
    """An apt-get that knows these mirrors, and another one's answer to an update."""
    listed = "\\n".join(lines)
    body = f'case "$*" in indextargets*) printf "{listed}\\n" ;; *) {update} ;; esac'
    program(folder, "apt-get", body)


def test_a_machine_without_the_base_says_so(programs: Path, tmp_path: Path) -> None:
    mirrors(programs, f"trixie {MIRROR}")
    with pytest.raises(NoPackages, match="no mirror of Debian bookworm"):
        Debian(debian.BASE, tmp_path / "work")


def test_a_mirror_that_does_not_answer_is_told(programs: Path, tmp_path: Path) -> None:
    failing = "echo 'E: Could not resolve mirror.invalid' >&2; exit 100"
    mirrors(programs, f"bookworm {MIRROR}", update=failing)
    with pytest.raises(NoPackages, match=r"status 100:\nE: Could not resolve mirror\.invalid"):
        Debian(debian.BASE, tmp_path / "work")


def test_a_suite_without_zfs_says_which_package_of_where(programs: Path, tmp_path: Path) -> None:
    mirrors(programs, f"bookworm {MIRROR}", f"bookworm-security {MIRROR}-security")
    kernel = "case $* in *depends*) echo 'Depends: linux-image-6.1-cloud-amd64' ;;"
    rest = "*zfs-dkms) echo 'Candidate: (none)' ;; *) echo 'Candidate: 6.1' ;; esac"
    program(programs, "apt-cache", f"{kernel} {rest}")
    with pytest.raises(NoPackages, match="no package zfs-dkms") as refused:
        Debian("bookworm-backports", tmp_path / "work")
    said = str(refused.value)
    for suite in ("bookworm", "bookworm-updates", "bookworm-backports"):
        assert f"{MIRROR} {suite} main contrib" in said
    assert f"{MIRROR}-security bookworm-security main contrib" in said


def test_the_suite_is_chosen_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENZFS", raising=False)
    assert chosen_suite() == "bookworm"
    monkeypatch.setenv("OPENZFS", "backports")
    assert chosen_suite() == "bookworm-backports"
    monkeypatch.setenv("OPENZFS", "2.3")
    with pytest.raises(NoPackages, match="backports"):
        chosen_suite()
