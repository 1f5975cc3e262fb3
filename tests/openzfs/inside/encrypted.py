"""An encrypted root, for tests."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def zfs(*arguments: str) -> None:
    """One command that must succeed."""
    subprocess.run(["zfs", *arguments], check=True)


def new_key(file: Path) -> str:
    """Makes a raw key; where it is, as a URL."""
    file.write_bytes(os.urandom(32))
    return f"file://{file}"


def create_encrypted(name: str, key: str) -> None:
    """Makes an encrypted dataset."""
    options = ("encryption=on", "keyformat=raw", f"keylocation={key}")
    zfs("create", *(part for option in options for part in ("-o", option)), name)
