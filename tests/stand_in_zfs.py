"""Processes that look like a running `zfs`, and are none: a shell under that name, which waits for
its input to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from transfer.storage.zfs_proc import stream_of

_WAITS = 'trap "{trap}" TERM; echo $$; read line'
_LEAVES = "import subprocess, sys; subprocess.Popen(sys.argv[1:], executable='/bin/sh')"

Start = Callable[..., int]


@contextmanager
def stand_ins(directory: Path) -> Iterator[Start]:
    """Starts them: `start("receive", "tank/x")` -> the process id, of a child, or of one whose
    parent is gone where it is `left`. Those that live are killed at the end."""
    with ExitStack() as stack:

        def start(verb: str, *words: str, left: bool = True, deaf: bool = False) -> int:
            (directory / verb).write_text(_WAITS.format(trap="" if deaf else "-"))
            argv = ["zfs", verb, *words]
            process = subprocess.Popen(
                [sys.executable, "-c", _LEAVES, *argv] if left else argv,
                executable=None if left else "/bin/sh",
                cwd=directory,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            stack.enter_context(process)
            assert process.stdout is not None
            pid = int(process.stdout.readline())
            stack.callback(_kill, pid)
            return pid

        yield start


def _kill(pid: int) -> None:
    if stream_of(pid) is not None:
        os.kill(pid, signal.SIGKILL)
