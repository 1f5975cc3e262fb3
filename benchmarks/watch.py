"""Memory and CPU of the daemons' processes, read from /proc ten times a second.

The role of a process is the verb of `python -m daemon <verb>`, or, for what such a process has
started, the name of its program. Memory is VmHWM, the kernel's own high-water mark: no peak hides
between two looks. Of a process that ends, the CPU time since the last look is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

INTERVAL_SECONDS = 0.1
_TICKS = os.sysconf("SC_CLK_TCK")
_ABSENT = (FileNotFoundError, ProcessLookupError)


@dataclass
class Usage:
    """What was seen. A process counts for the role that it had last: a child begins as something
    else before it is what it was started for."""

    samples: int = 0
    _first: dict[int, float] = field(default_factory=dict)
    _last: dict[int, tuple[str, float]] = field(default_factory=dict)
    _peaks: dict[int, int] = field(default_factory=lambda: defaultdict(int))

    def peak_bytes(self) -> dict[str, int]:
        """By role, that of the largest process."""
        largest: dict[str, int] = defaultdict(int)
        for pid, (role, _) in self._last.items():
            largest[role] = max(largest[role], self._peaks[pid])
        return dict(largest)

    def cpu_seconds(self) -> dict[str, float]:
        """By role, from the first look to the last."""
        total: dict[str, float] = defaultdict(float)
        for pid, (role, seconds) in self._last.items():
            total[role] += seconds - self._first[pid]
        return dict(total)

    def look(self, roots: Iterable[int]) -> None:
        """Takes one sample of these processes and all below them."""
        new = self.samples > 0
        for pid, role, cpu_seconds in _family(roots):
            with contextlib.suppress(*_ABSENT):
                self._peaks[pid] = max(self._peaks[pid], _high_water(pid))
            # What started after the first look has used nothing before it.
            self._first.setdefault(pid, 0.0 if new else cpu_seconds)
            self._last[pid] = (role, cpu_seconds)
        self.samples += 1


@contextlib.asynccontextmanager
async def watching(roots: Iterable[int]) -> AsyncIterator[Usage]:
    """Looks at the processes while the body runs."""
    usage = Usage()
    pids = list(roots)

    async def look() -> None:
        while True:
            usage.look(pids)
            await asyncio.sleep(INTERVAL_SECONDS)

    usage.look(pids)
    task = asyncio.create_task(look())
    try:
        yield usage
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        usage.look(pids)


def _family(roots: Iterable[int]) -> list[tuple[int, str, float]]:
    """(pid, role, CPU seconds) of the roots and all their descendants."""
    found: dict[int, tuple[int, str, float]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(*_ABSENT):
                found[int(name)] = _stat(int(name))
    members = set(roots) & found.keys()
    more = members
    while more:
        more = {pid for pid, (parent, _, _) in found.items() if parent in more} - members
        members |= more
    return [(pid, _role(pid, found[pid][1]), found[pid][2]) for pid in members]


def _stat(pid: int) -> tuple[int, str, float]:
    """(parent, program, CPU seconds)."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        head, _, rest = file.read().rpartition(")")
    fields = rest.split()
    return int(fields[1]), head.partition("(")[2], (int(fields[11]) + int(fields[12])) / _TICKS


def _role(pid: int, program: str) -> str:
    with contextlib.suppress(*_ABSENT), open(f"/proc/{pid}/cmdline", "rb") as file:
        argv = file.read().decode(errors="replace").split("\0")
        if argv[1:3] == ["-m", "daemon"]:
            return argv[3]
    return program


def _high_water(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    return 0  # a process that has ended, but was not waited for yet
