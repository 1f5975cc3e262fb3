"""The demo's trees: taken in from this Python, changed, weighed and compared."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import stat
import sysconfig
from dataclasses import dataclass
from threading import Event

import zstandard

from daemon.actions.identity import IDENTITY_PATHS

FILES_MIN = 20_000
WEIGHING_LEVEL = 3  # zstd -3, as the figure is defined


@dataclass(frozen=True, slots=True)
class Entry:
    """What must be equal of a file, directory or symlink. `mtime` is in the granularity that the
    backend can hold."""

    kind: int
    mode: int
    mtime: int
    content: bytes


class Stopped(Exception):
    """Nobody waits for the result any more."""


def gather(target: str, stop: Event) -> int:
    """Copies this Python's standard library (without its own tests) and site-packages to
    `target`, and adds small files until there are 20,000. Returns their number."""
    paths = sysconfig.get_paths()
    library = ("__pycache__", "site-packages", "test", "config-*")
    _copy(paths["stdlib"], os.path.join(target, "lib"), library, stop)
    _copy(paths["purelib"], os.path.join(target, "site-packages"), ("__pycache__",), stop)
    _furnish(target)
    count = _count(target)
    for number in range(count, FILES_MIN):
        _go_on(stop)
        directory = os.path.join(target, "spool", f"{number % 100:02}")
        os.makedirs(directory, exist_ok=True)
        with open(os.path.join(directory, f"{number}.txt"), "w", encoding="ascii") as file:
            file.write(f"message {number}\n" * 20)
    return max(count, FILES_MIN)


def _copy(source: str, target: str, skipped: tuple[str, ...], stop: Event) -> None:
    def copy_file(one: str, other: str) -> None:
        _go_on(stop)
        shutil.copy2(one, other)

    skip = shutil.ignore_patterns(*skipped)
    shutil.copytree(source, target, symlinks=True, ignore=skip, copy_function=copy_file)


def _go_on(stop: Event) -> None:
    if stop.is_set():
        raise Stopped


def _furnish(target: str) -> None:
    """What a root filesystem has and a library has not."""
    for directory in ("etc/ssh", "root", "var/empty"):
        os.makedirs(os.path.join(target, directory), exist_ok=True)
    for name, text in (("etc/hostname", "source\n"), ("etc/machine-id", "0" * 32 + "\n")):
        with open(os.path.join(target, name), "w", encoding="ascii") as file:
            file.write(text)
    os.symlink("lib/os.py", os.path.join(target, "os.py"))
    os.link(os.path.join(target, "lib/os.py"), os.path.join(target, "lib/os-again.py"))


def _count(tree: str) -> int:
    return sum(len(files) for _, _, files in os.walk(tree))


def change(rootfs: str) -> int:
    """Makes new files, changes, deletes and renames some; returns what the new and changed ones
    weigh, compressed whole by zstd -3."""
    lib = os.path.join(rootfs, "lib")
    modules = sorted(name for name in os.listdir(lib) if name.endswith(".py"))
    touched = []
    for number in range(20):
        path = os.path.join(rootfs, "etc", f"new-{number}.conf")
        with open(path, "w", encoding="ascii") as file:
            file.write(f"setting-{number} = {number * number}\n" * 200)
        touched.append(path)
    blob = os.path.join(rootfs, "var", "data.bin")
    with open(blob, "wb") as file:
        file.write(random.Random(7).randbytes(2 << 20))  # noqa: S311 - data, no secret
    touched.append(blob)
    for name in modules[:30]:
        path = os.path.join(lib, name)
        with open(path, "a", encoding="utf-8") as file:
            file.write("\n# changed\n")
        touched.append(path)
    for name in modules[30:40]:
        os.unlink(os.path.join(lib, name))
    for name in modules[40:50]:
        os.rename(os.path.join(lib, name), os.path.join(lib, f"renamed-{name}"))
    os.rename(os.path.join(lib, "json"), os.path.join(lib, "json-renamed"))
    return sum(_weight(path) for path in touched)


def _weight(path: str) -> int:
    with open(path, "rb") as file:
        return len(zstandard.ZstdCompressor(level=WEIGHING_LEVEL).compress(file.read()))


def differences(one: str, other: str, mtime_ns: int, stop: Event) -> list[str]:
    """The paths in which two trees differ, identity files aside; by a walk of its own."""
    first, second = _walk(one, mtime_ns, stop), _walk(other, mtime_ns, stop)
    return sorted(
        path
        for path in first.keys() | second.keys()
        if path not in IDENTITY_PATHS and first.get(path) != second.get(path)
    )


def _walk(tree: str, mtime_ns: int, stop: Event) -> dict[str, Entry]:
    found: dict[str, Entry] = {".": _entry(tree, mtime_ns)}
    for directory, names, files in os.walk(tree):
        for name in (*names, *files):
            _go_on(stop)
            path = os.path.join(directory, name)
            found[os.path.relpath(path, tree)] = _entry(path, mtime_ns)
    return found


def _entry(path: str, mtime_ns: int) -> Entry:
    state = os.lstat(path)
    content = b""
    if stat.S_ISLNK(state.st_mode):
        content = os.fsencode(os.readlink(path))
    elif stat.S_ISREG(state.st_mode):
        with open(path, "rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
    mtime = state.st_mtime_ns // mtime_ns
    return Entry(stat.S_IFMT(state.st_mode), stat.S_IMODE(state.st_mode), mtime, content)
