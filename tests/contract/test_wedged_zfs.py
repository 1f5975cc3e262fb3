"""The tests' own zfs-fuse: one whose listener is stuck is seen, and replaced."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.sturdy_zfs import SturdyZfs

pytestmark = pytest.mark.zfs

POOL_BYTES = 256 << 20
ANSWER_SECONDS = 60


def wedge(pid: int) -> None:
    """As two mounts at once do: what their listener reads from its pipe makes no sense."""
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        flags = Path(f"/proc/{pid}/fdinfo/{entry.name}").read_text().split("flags:")[1].split()[0]
        if os.readlink(entry).startswith("pipe:") and int(flags, 8) & os.O_WRONLY:
            descriptor = os.open(entry, os.O_WRONLY)
            os.write(descriptor, b"\x7f" * 200)
            os.close(descriptor)


def answers(zfs: SturdyZfs, directory: Path, name: str) -> bool:
    """Whether a file can be made in a pool that is new."""
    zfs.create_pool(name, str(directory / f"{name}.pool"), POOL_BYTES)
    subprocess.run(
        ["zfs", "create", "-o", f"mountpoint={directory / name}", f"{name}/a"], check=True
    )
    touched = subprocess.run(["touch", directory / name / "x"], check=False, timeout=ANSWER_SECONDS)
    zfs.destroy_pool(name)
    return touched.returncode == 0


def test_a_wedged_daemon_is_replaced(zfs_daemon: SturdyZfs, tmp_path: Path) -> None:
    assert answers(zfs_daemon, tmp_path, "one")
    assert zfs_daemon.listens()
    before = zfs_daemon.pid
    assert before is not None
    wedge(before)
    assert not zfs_daemon.listens()
    assert answers(zfs_daemon, tmp_path, "two")
    assert zfs_daemon.pid != before
