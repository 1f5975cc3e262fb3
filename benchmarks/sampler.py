"""Where a process's CPU time goes, by stage of the pipe: a look each 2 ms of CPU time.

Signals are handled by the main thread, so the looks tell how *its* time is spread; what the other
threads use, which encode and decode blocks, the kernel counts.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

LOOK_SECONDS = 0.002
THREADS = "zstd and the digest of the whole, in threads"
_WAITS = "waits"
_TICKS = os.sysconf("SC_CLK_TCK")

# Of the innermost frame whose file one of these is part of, the stage.
_STAGES = (
    ("asyncssh/crypto/", "AES-GCM"),
    ("asyncssh/encryption", "AES-GCM"),
    ("asyncssh/", "asyncssh beside AES-GCM"),
    ("transfer/codec", "codec: the digest of the whole, what is not in threads"),
    ("transfer/frames", "frames and their digests"),
    ("transfer/", "pipeline and channel"),
    ("/selectors.py", _WAITS),
    ("asyncio/", "event loop and sockets"),
)


@dataclass
class Stages:
    """CPU seconds by stage, and of the whole process; both complete after the block."""

    seconds: dict[str, float] = field(default_factory=dict)
    cpu_seconds: float = 0.0


@contextmanager
def sampling() -> Iterator[Stages]:
    """Looks while the block runs, in the main thread."""
    found, looks = Stages(), Counter[str]()

    def look(_number: int, frame: FrameType | None) -> None:
        looks[_stage(frame)] += 1

    before, whole = _main_seconds(), _seconds()
    signal.signal(signal.SIGPROF, look)
    signal.setitimer(signal.ITIMER_PROF, LOOK_SECONDS, LOOK_SECONDS)
    try:
        yield found
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        main_seconds = _main_seconds() - before
        found.cpu_seconds = _seconds() - whole
        looks.pop(_WAITS, None)
        total = looks.total() or 1
        found.seconds = {stage: main_seconds * count / total for stage, count in looks.items()}
        found.seconds[THREADS] = max(0.0, found.cpu_seconds - main_seconds)


def _stage(frame: FrameType | None) -> str:
    while frame is not None:
        for part, stage in _STAGES:
            if part in frame.f_code.co_filename:
                return stage
        frame = frame.f_back
    return "other"


def _main_seconds() -> float:
    me = os.getpid()
    return _used(Path(f"/proc/{me}/task/{me}/stat").read_text(encoding="utf-8"))


def _seconds() -> float:
    return _used(Path("/proc/self/stat").read_text(encoding="utf-8"))


def _used(stat: str) -> float:
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
