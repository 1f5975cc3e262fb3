"""Runs one program to its end and prints what it took, as JSON: `python -m benchmarks.metered
PROGRAM ARGUMENT…`

A process of its own that adopts what the program leaves behind (the ssh master of syncoid does all
the encryption of its side in the background): so their CPU time counts when they end, and they are
ended. What the program says goes to our standard error.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
LINGER_SECONDS = 2.0
POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Metered:
    """How the program ended, the seconds until then, and the CPU seconds of all it started."""

    status: int
    seconds: float
    cpu_seconds: float


def main(argv: list[str]) -> None:
    """Runs it and prints."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    began = time.monotonic()
    status = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
    seconds = time.monotonic() - began
    _end_the_rest()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    json.dump(
        asdict(Metered(status.returncode, seconds, used.ru_utime + used.ru_stime)), sys.stdout
    )


def _end_the_rest() -> None:
    """Waits for what was left behind, for a while; then kills it."""
    deadline = time.monotonic() + LINGER_SECONDS
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if not pid:
                if time.monotonic() > deadline:
                    _kill_children()
                time.sleep(POLL_SECONDS)


def _kill_children() -> None:
    me = os.getpid()
    for pid in Path(f"/proc/{me}/task/{me}/children").read_text(encoding="ascii").split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
