"""Pools of the kernel's own ZFS for tests, where a private zfs-fuse would be otherwise.

Only on a machine that is there for it, like the one of tests/openzfs: its pools have the names
that tests give them.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.sturdy_zfs import ToldZfs

KERNEL = os.environ.get("HOODY_TEST_ZFS") == "kernel"
"""Whether the tests' ZFS is the kernel's."""


def available() -> str | None:
    """None where the module can be used, else the reason why not."""
    if os.geteuid() != 0:
        return "not root"
    return None if Path("/sys/module/zfs").exists() else "the kernel has no zfs module"


class KernelZfs(ToldZfs):
    """The pools of a private zfs-fuse without the daemon: the module answers already. Under
    emulation, what it can do takes seconds to find out."""

    def start(self) -> None:
        """Nothing is to be started."""
