"""What took long to make, kept outside of the repository: a folder an entry, whole or not at all.

An entry is made in a folder of another name, gets the checksums of its files last, and is then
renamed. One whose files do not have their checksums, for whatever reason, is made anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

VARIABLE = "HOODY_OPENZFS_CACHE"
KEY_LENGTH = 16
_KEY_GLOB = "[0-9a-f]" * KEY_LENGTH
_SUMS = "SUMS.json"


def cache_root() -> Path:
    """Where the entries are: what `HOODY_OPENZFS_CACHE` says, else a folder of the user's cache."""
    caches = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get(VARIABLE) or Path(caches, "hoody-openzfs"))


def key_of(*parts: str | bytes) -> str:
    """A name for these parts, which any change of any of them changes."""
    whole = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        whole.update(len(data).to_bytes(8, "big") + data)
    return whole.hexdigest()[:KEY_LENGTH]


def cached(root: Path, name: str, key: str, make: Callable[[Path], None]) -> Path:
    """The folder of the entry; `make` fills it where there is none. Older keys of the name go."""
    root.mkdir(parents=True, exist_ok=True)
    entry = root / f"{name}-{key}"
    with _locked(root / f"{name}.lock"):
        if _is_whole(entry):
            return entry
        for old in root.glob(f"{name}-{_KEY_GLOB}*"):
            shutil.rmtree(old)
        unfinished = Path(tempfile.mkdtemp(prefix=f"{entry.name}.", dir=root))
        try:
            make(unfinished)
            (unfinished / _SUMS).write_text(json.dumps(_sums(unfinished)), encoding="utf-8")
            os.sync()
            unfinished.rename(entry)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return entry


def _is_whole(entry: Path) -> bool:
    try:
        said = json.loads((entry / _SUMS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(said == _sums(entry))


def _sums(entry: Path) -> dict[str, str]:
    found = {}
    for path in sorted(path for path in entry.iterdir() if path.name != _SUMS):
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Two that start at once do not both make it."""
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
