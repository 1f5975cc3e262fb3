"""What this machine does without the product: memory, AES, zstd, digests, the disk, zfs alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence

import zstandard
from xxhash import xxh3_128_digest

from benchmarks.numbers import MIB
from benchmarks.results import Table
from benchmarks.world import run

Ceiling = tuple[str, float, str]
"""What, how much, and how it was measured."""

TRY_SECONDS = 0.5
DISK_BYTES = 256 * MIB
MEMORY_BYTES = 64 * MIB  # more than the caches hold
BLOCK_BYTES = MIB
_OPENSSL_BYTES = 128 << 10


def table(rows: Sequence[Ceiling]) -> Table:
    """The table that every part begins with."""
    return Table("Ceilings", ["what the machine allows", "", "how measured"], rows)


def rate(work: Callable[[bytes], object], block: bytes) -> float:
    """MiB/s of one core that does this to blocks, one after the other."""
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < TRY_SECONDS:
        work(block)
        count += 1
    return count * len(block) / MIB / (time.perf_counter() - began)


def memcpy() -> float:
    """MiB/s from memory to memory."""
    source = os.urandom(MEMORY_BYTES)
    target = bytearray(source)

    def copy(block: bytes) -> None:
        target[:] = block

    return rate(copy, source)


def aes() -> float:
    """MiB/s of AES-128-GCM on one core, by openssl."""
    argv = ["openssl", "speed", "-seconds", "1", "-bytes", str(_OPENSSL_BYTES), "-mr"]
    argv += ["-evp", "aes-128-gcm"]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    last = next(line for line in said.splitlines() if line.startswith("+F:"))
    return float(last.rpartition(":")[2]) / MIB


def zstd(block: bytes, level: int = 1) -> float:
    """MiB/s of zstd on one core."""
    return rate(zstandard.ZstdCompressor(level=level).compress, block)


def xxh3(block: bytes) -> float:
    """MiB/s of the digest on one core."""
    return rate(xxh3_128_digest, block)


def disk_write(directory: str) -> float:
    """MiB/s to a file, up to and with fsync."""
    path = os.path.join(directory, "disk")
    block = os.urandom(BLOCK_BYTES)
    began = time.perf_counter()
    with open(path, "wb", buffering=0) as file:
        for _ in range(DISK_BYTES // BLOCK_BYTES):
            file.write(block)
        os.fsync(file.fileno())
    seconds = time.perf_counter() - began
    os.unlink(path)
    return DISK_BYTES / MIB / seconds


async def send_and_receive(snapshot: str, target: str) -> float:
    """Seconds of `zfs send | zfs receive` of a snapshot into another pool, through a pipe."""
    began = time.perf_counter()
    await run("/bin/sh", "-c", f"zfs send {snapshot} | zfs receive {target}")
    seconds = time.perf_counter() - began
    await run("zfs", "destroy", "-r", target)
    return seconds


async def snapshot_and_clone(dataset: str, target: str) -> float:
    """Seconds of a `zfs snapshot` and a `zfs clone`, which a copy on the same server is made of."""
    began = time.perf_counter()
    await run("zfs", "snapshot", f"{dataset}@ceiling")
    await run("zfs", "clone", "-o", "mountpoint=none", f"{dataset}@ceiling", target)
    seconds = time.perf_counter() - began
    await run("zfs", "destroy", target)
    await run("zfs", "destroy", f"{dataset}@ceiling")
    return seconds


def file_copy(source: str, target: str) -> float:
    """Seconds of a plain copy of a tree."""
    began = time.perf_counter()
    shutil.copytree(source, target, symlinks=True)
    seconds = time.perf_counter() - began
    shutil.rmtree(target)
    return seconds
