"""Memory and CPU of processes and all below them, read from /proc.

The role of a process is the verb of `python -m daemon <verb>`, or, for what such a process has
started, the name of its program. A process's largest memory is VmHWM, the kernel's own high-water
mark: no peak hides between two looks. CPU time is what the living have used and what those used
that they have waited for, so that programs too short to be seen count as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

INTERVAL_SECONDS = 0.2
ENDED = "programs that ended"
_TICKS = os.sysconf("SC_CLK_TCK")
_ABSENT = (FileNotFoundError, ProcessLookupError)


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    parent: int
    role: str
    own_seconds: float
    ended_seconds: float


@dataclass
class Usage:
    """What was seen. `peak_bytes` is the most that all had at once, by the looks; `aside` names
    roles that do not count there."""

    aside: Collection[str] = ()
    peak_bytes: int = 0
    _largest: dict[int, tuple[str, int]] = field(default_factory=dict)

    def largest(self) -> dict[str, int]:
        """By role, the high-water mark of the largest process, in bytes."""
        found: dict[str, int] = defaultdict(int)
        for role, peak_bytes in self._largest.values():
            found[role] = max(found[role], peak_bytes)
        return dict(found)

    def look(self, roots: Iterable[int]) -> None:
        """Takes one sample of these processes and all below them."""
        total_bytes = 0
        for process in _family(roots):
            with contextlib.suppress(*_ABSENT):
                now_bytes, most_bytes = _memory(process.pid)
                self._largest[process.pid] = (process.role, most_bytes)
                if process.role not in self.aside:
                    total_bytes += now_bytes
        self.peak_bytes = max(self.peak_bytes, total_bytes)


@contextlib.asynccontextmanager
async def watching(
    roots: Callable[[], Iterable[int]], aside: Collection[str] = ()
) -> AsyncIterator[Usage]:
    """Looks, while the body runs, at the processes that are asked for again each time."""
    usage = Usage(aside)
    for process in _family(roots()):
        _forget_peak(process.pid)

    async def look() -> None:
        while True:
            usage.look(roots())
            await asyncio.sleep(INTERVAL_SECONDS)

    task = asyncio.create_task(look())
    try:
        yield usage
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        usage.look(roots())


def cpu_seconds(roots: Iterable[int]) -> dict[str, float]:
    """What these processes and all below them have used until now, by role."""
    found: defaultdict[str, float] = defaultdict(float)
    for process in _family(roots):
        found[process.role] += process.own_seconds
        found[ENDED] += process.ended_seconds
    return dict(found)


def since(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """The CPU seconds between two answers of `cpu_seconds`, by role, without those of none."""
    used = {role: seconds - before.get(role, 0.0) for role, seconds in after.items()}
    return {role: seconds for role, seconds in used.items() if seconds > 0}


@contextlib.contextmanager
def standing_still(roots: Iterable[int], aside: Collection[str] = ()) -> Iterator[None]:
    """Has these processes and all below them do nothing while the body runs, but for those of the
    roles `aside`, which others wait for."""
    stopped = [process.pid for process in _family(roots) if process.role not in aside]
    _signal(stopped, signal.SIGSTOP)
    try:
        yield
    finally:
        _signal(stopped, signal.SIGCONT)


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _family(roots: Iterable[int]) -> list[_Process]:
    """The roots and all their descendants."""
    found: dict[int, _Process] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(*_ABSENT):
                found[int(name)] = _stat(int(name))
    members = set(roots) & found.keys()
    more = members
    while more:
        more = {pid for pid, process in found.items() if process.parent in more} - members
        members |= more
    return [found[pid] for pid in members]


def _stat(pid: int) -> _Process:
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        head, _, rest = file.read().rpartition(")")
    fields = rest.split()
    own, ended = (sum(map(int, fields[at : at + 2])) / _TICKS for at in (11, 13))
    return _Process(pid, int(fields[1]), _role(pid, head.partition("(")[2]), own, ended)


def _role(pid: int, program: str) -> str:
    with contextlib.suppress(*_ABSENT), open(f"/proc/{pid}/cmdline", "rb") as file:
        argv = file.read().decode(errors="replace").split("\0")
        if argv[1:3] == ["-m", "daemon"]:
            return argv[3]
    return program


def _memory(pid: int) -> tuple[int, int]:
    """(bytes now, most bytes)."""
    found = {"VmRSS": 0, "VmHWM": 0}  # neither, of a process that ended and was not waited for
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        for line in file:
            key, _, value = line.partition(":")
            if key in found:
                found[key] = int(value.split()[0]) << 10
    return found["VmRSS"], found["VmHWM"]


def _forget_peak(pid: int) -> None:
    """Has the kernel begin the high-water mark anew, where it lets us."""
    with contextlib.suppress(*_ABSENT, PermissionError), open(f"/proc/{pid}/clear_refs", "w") as at:
        at.write("5")
