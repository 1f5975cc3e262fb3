"""Pools of the kernel's own ZFS for tests, where a private zfs-fuse would be otherwise.

Only on a machine that is there for it, like the one of tests/openzfs: its pools have the names
that tests give them.
"""

from __future__ import annotations

import os
from pathlib import Path

from transfer.storage.private_zfs import PrivateZfs

KERNEL = os.environ.get("HOODY_TEST_ZFS") == "kernel"
"""Whether the tests' ZFS is the kernel's."""


def available() -> str | None:
    """None where the module can be used, else the reason why not."""
    if os.geteuid() != 0:
        return "not root"
    return None if Path("/sys/module/zfs").exists() else "the kernel has no zfs module"


class KernelZfs(PrivateZfs):
    """The pools of a private zfs-fuse without the daemon: the module answers already."""

    def start(self) -> None:
        """Nothing is to be started."""
