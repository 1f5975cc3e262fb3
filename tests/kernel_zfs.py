"""Pools of the kernel's own ZFS for tests, where a private zfs-fuse would be otherwise.

Only on a machine that is there for it, like the one of tests/openzfs: its pools have the names
that tests give them.
"""

from __future__ import annotations

import os
from pathlib import Path

from transfer import command
from transfer.storage.private_zfs import COMMAND_SECONDS, PrivateZfs
from transfer.storage.zfs_traits import TRAITS

KERNEL = os.environ.get("HOODY_TEST_ZFS") == "kernel"
"""Whether the tests' ZFS is the kernel's."""


def available() -> str | None:
    """None where the module can be used, else the reason why not."""
    if os.geteuid() != 0:
        return "not root"
    return None if Path("/sys/module/zfs").exists() else "the kernel has no zfs module"


class KernelZfs(PrivateZfs):
    """The pools of a private zfs-fuse without the daemon: the module answers already.

    What a storage found out about its pool, each later pool has been told before, as in a daemon's
    second start: to try it out takes ten commands, and seconds under emulation.
    """

    def __init__(self) -> None:
        super().__init__()
        self._traits = ""

    def start(self) -> None:
        """Nothing is to be started."""

    def create_pool(self, pool: str, file: str, size_bytes: int, *options: str) -> None:
        """See PrivateZfs."""
        told = ["-O", f"{TRAITS}={self._traits}"] if self._traits else []
        super().create_pool(pool, file, size_bytes, *options, *told)

    def destroy_pool(self, pool: str) -> None:
        """See PrivateZfs."""
        self._traits = self._traits or _found_out(pool)
        super().destroy_pool(pool)


def _found_out(pool: str) -> str:
    argv = ["zfs", "get", "-H", "-r", "-s", "local", "-o", "value", TRAITS, pool]
    said = command.run_blocking(argv, deadline_seconds=COMMAND_SECONDS).stdout.splitlines()
    return said[0] if said else ""
