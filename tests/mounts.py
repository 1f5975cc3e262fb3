"""Bind mounts, for the tests of what must not be crossed."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

MOUNT_SECONDS = 20.0


@contextlib.contextmanager
def mounted(what: Path, where: Path) -> Iterator[None]:
    """A file or directory is seen at another place while the body runs. Needs root."""
    subprocess.run(["mount", "--bind", what, where], check=True, timeout=MOUNT_SECONDS)
    try:
        yield
    finally:
        subprocess.run(["umount", where], check=True, timeout=MOUNT_SECONDS)
