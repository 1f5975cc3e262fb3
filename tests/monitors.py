"""A process that stands for a container's monitor: it has the lock by which one is known."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from daemon.runtime import places

_LOCKS = """
import fcntl, sys
lock = open(sys.argv[1], "a+")
fcntl.lockf(lock, fcntl.LOCK_EX)
print(flush=True)
sys.stdin.read()
"""


@contextmanager
def monitor_of(root: str, container_id: str) -> Iterator[None]:
    """It lives for as long as the block lasts; `root` is that of the server's runtime."""
    Path(places.folder(root, container_id)).mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-c", _LOCKS, places.lock(root, container_id)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield
        process.communicate()
