"""The data: trees of three kinds, and the changes that are made to them.

All comes from AES in counter mode, by seed: as good as random, faster than the disk, and the same
bytes for every tool.
"""

from __future__ import annotations

import os
import random
import shutil
import stat
from collections.abc import Iterator, Sequence

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

BLOCK_BYTES = 1 << 20
FILE_BYTES = 32 << 20
SYSTEM = "system"
INCOMPRESSIBLE = "incompressible"
COMPRESSIBLE = "compressible"
KINDS = (SYSTEM, INCOMPRESSIBLE, COMPRESSIBLE)

# In the order in which they are taken, each up to its part of the whole.
_SYSTEM_FOLDERS = (("/usr/bin", 0.4), ("/usr/include", 0.6), ("/usr/share", 1.0), ("/usr/lib", 1.0))
_LINE = b"2026-01-01T00:00:00Z server=a container=%08d state=running message=all is well\n"


def stream(kind: str, size_bytes: int, seed: int) -> Iterator[bytes]:
    """Blocks of a file of this kind; that of a system tree is random."""
    encryptor = Cipher(algorithms.AES(bytes(16)), modes.CTR(seed.to_bytes(16, "big"))).encryptor()
    left = size_bytes
    while left:
        count = min(left, BLOCK_BYTES)
        if kind == COMPRESSIBLE:
            lines = (_LINE % ((seed + left + number) % 10**8) for number in range(count // 64))
            yield b"".join(lines)[:count].ljust(count, b"\n")
        else:
            yield encryptor.update(bytes(count))
        left -= count


def make_tree(directory: str, kind: str, size_bytes: int) -> int:
    """A tree of about this size, which must not exist yet; returns its size in bytes."""
    os.makedirs(os.path.join(directory, "etc"))
    if kind == SYSTEM:
        return _copy_system(directory, size_bytes)
    write_files(directory, kind, size_bytes, 0)
    return size_bytes


def write_files(
    directory: str, kind: str, size_bytes: int, seed: int, written_bytes: int = 0
) -> None:
    """Files of so many bytes together, of which the first ones are there already; of another
    seed, others in place of those."""
    for number, begin in enumerate(range(0, size_bytes, FILE_BYTES)):
        if begin + FILE_BYTES <= written_bytes:
            continue
        path = os.path.join(directory, f"data-{number}.bin")
        write_file(path, kind, min(FILE_BYTES, size_bytes - begin), seed * 10_000 + number)


def write_file(path: str, kind: str, size_bytes: int, seed: int) -> None:
    """One file, in the place of an older one's bytes."""
    with open(path, "r+b" if os.path.exists(path) else "wb") as file:
        for block in stream(kind, size_bytes, seed):
            file.write(block)


def files_of(directory: str) -> list[tuple[str, int]]:
    """The regular files of a tree, by their paths in it, and their sizes. A tree of many files
    takes long to walk through."""
    return sorted((os.path.relpath(path, directory), size) for path, size in _files(directory))


def change(
    directory: str, files: Sequence[tuple[str, int]], kind: str, share: float, seed: int
) -> int:
    """Writes this share of a tree's bytes anew, in those of its files that the seed chooses; the
    bytes."""
    left = wanted = int(sum(size for _, size in files) * share)
    for path, size in random.Random(seed).sample(files, len(files)):
        if left <= 0:
            break
        count = min(left, size)
        write_file(os.path.join(directory, path), kind, count, seed)
        left -= count
    return wanted


def nudge(directory: str, seed: int) -> None:
    """The smallest change: the tree is not as it was, and its size is."""
    write_file(os.path.join(directory, "etc", "nudged"), INCOMPRESSIBLE, 64, seed)


def copy_tree(source: str, target: str) -> None:
    """A copy of a tree in a directory that exists."""
    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)


def _copy_system(directory: str, size_bytes: int) -> int:
    copied = 0
    for folder, until in _SYSTEM_FOLDERS:
        for path, size in _files(folder):
            if copied + size > size_bytes * until:
                continue
            target = directory + path
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copy2(path, target, follow_symlinks=False)
            copied += size
    return copied


def _files(directory: str) -> Iterator[tuple[str, int]]:
    """The regular files below a directory and their sizes, in an order that stays."""
    for folder, names, files in os.walk(directory):
        names.sort()
        for name in sorted(files):
            path = os.path.join(folder, name)
            state = os.lstat(path)
            if stat.S_ISREG(state.st_mode):
                yield path, state.st_size
