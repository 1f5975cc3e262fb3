"""The tests' zfs-fuse: one that was wedged is replaced, and what its pools can do is found out
once.

Whatever tests kill, zfs-fuse may be left so that no mount of its answers any more
(ARCHITECTURE.md, what zfs-fuse taught us). The next test would wait for ever, and it is not at
fault.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from transfer import command
from transfer.storage.private_zfs import COMMAND_SECONDS, PrivateZfs
from transfer.storage.zfs_traits import TRAITS

LOOKS_SECONDS = 5.0  # its threads wake up each second
LOOK_EVERY_SECONDS = 0.02
_LISTENERS = 2  # one waits for commands, one for mounts and what they are asked


class ToldZfs(PrivateZfs):
    """What a storage found out about its pool, each later pool has been told before, as in a
    daemon's second start: to try it out takes ten commands."""

    def __init__(self) -> None:
        super().__init__()
        self._traits = ""

    def create_pool(self, pool: str, file: str, size_bytes: int, *options: str) -> None:
        """See PrivateZfs."""
        told = ["-O", f"{TRAITS}={self._traits}"] if self._traits else []
        super().create_pool(pool, file, size_bytes, *options, *told)

    def destroy_pool(self, pool: str) -> None:
        """See PrivateZfs."""
        self._traits = self._traits or _found_out(pool)
        super().destroy_pool(pool)


class SturdyZfs(ToldZfs):
    """A zfs-fuse that listens whenever its first pool is made."""

    def create_pool(self, pool: str, file: str, size_bytes: int, *options: str) -> None:
        """See PrivateZfs."""
        if not self._pools and not self.listens():
            print("a wedged zfs-fuse is replaced", file=sys.__stderr__, flush=True)
            self._stop()
            self.start()
        super().create_pool(pool, file, size_bytes, *options)

    def listens(self) -> bool:
        """Whether both its listeners wait, at one moment of a few seconds."""
        deadline = time.monotonic() + LOOKS_SECONDS
        while _polling(self.pid) < _LISTENERS:
            if time.monotonic() > deadline:
                return False
            time.sleep(LOOK_EVERY_SECONDS)
        return True


def _polling(pid: int | None) -> int:
    """How many threads are in poll(2) now."""
    return sum("poll" in _waits_in(task) for task in Path(f"/proc/{pid}/task").glob("*"))


def _waits_in(task: Path) -> str:
    try:
        return (task / "wchan").read_text()
    except OSError:  # the thread has ended
        return ""


def _found_out(pool: str) -> str:
    argv = ["zfs", "get", "-H", "-r", "-s", "local", "-o", "value", TRAITS, pool]
    said = command.run_blocking(argv, deadline_seconds=COMMAND_SECONDS).stdout.splitlines()
    return said[0] if said else ""
