"""What programs take: CPU time counts whoever used it, memory while it is there."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys

import pytest

from benchmarks import watch
from benchmarks.metered import Metered
from benchmarks.sampler import THREADS, sampling
from benchmarks.watch import ENDED, cpu_seconds, since, standing_still, watching

BURN_SECONDS = 0.4
_BURN = f"""
import time
while time.process_time() < {BURN_SECONDS}: pass
"""
_LEAVES_BEHIND = f"""
import os, time
if os.fork() == 0:
    os.setsid()
    while time.process_time() < {BURN_SECONDS}: pass
"""
_FOREVER = """
import os, time
if os.fork() == 0:
    os.setsid()
    print(os.getpid(), flush=True)
    time.sleep(600)
"""


def _metered(*argv: str) -> tuple[Metered, str]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.metered", *argv],
        capture_output=True,
        text=True,
        check=True,
    )
    return Metered(**json.loads(done.stdout)), done.stderr


def test_a_program_that_has_ended_counts() -> None:
    before = cpu_seconds([os.getpid()])
    subprocess.run([sys.executable, "-c", _BURN], check=True)
    assert since(before, cpu_seconds([os.getpid()]))[ENDED] >= BURN_SECONDS * 0.9


def test_since_leaves_out_who_did_nothing() -> None:
    assert since({"a": 1.0, "b": 2.0}, {"a": 1.0, "b": 2.5, "c": 1.0}) == {"b": 0.5, "c": 1.0}


def test_who_stands_still_uses_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        with standing_still([process.pid]):
            before = cpu_seconds([process.pid])
            subprocess.run([sys.executable, "-c", _BURN], check=True)
            assert not since(before, cpu_seconds([process.pid]))
        role = before.keys() - {ENDED}
        with standing_still([process.pid], aside=role):
            while not since(before, cpu_seconds([process.pid])):
                pass
        before = cpu_seconds([process.pid])
        while not since(before, cpu_seconds([process.pid])):
            pass
    finally:
        process.kill()
        process.wait()


async def test_memory_is_seen_and_set_aside_by_role() -> None:
    size_bytes = 64 << 20
    line = f"held = bytearray({size_bytes}); print(flush=True); input()"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", line), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    await process.stdout.readline()
    async with watching(lambda: [process.pid]) as usage:
        pass
    role = watch.cpu_seconds([process.pid]).keys() - {ENDED}
    async with watching(lambda: [process.pid], aside=role) as nothing:
        pass
    await process.communicate(b"\n")
    assert usage.peak_bytes > size_bytes
    assert set(usage.largest()) == role
    assert nothing.peak_bytes == 0


def test_a_metered_program_s_own_time_and_status() -> None:
    found, _ = _metered(sys.executable, "-c", _BURN)
    assert found.status == 0
    assert found.cpu_seconds >= BURN_SECONDS * 0.9
    assert found.seconds >= BURN_SECONDS * 0.9
    assert _metered("sh", "-c", "exit 3")[0].status == 3


def test_what_a_metered_program_leaves_behind_counts() -> None:
    found, _ = _metered(sys.executable, "-c", _LEAVES_BEHIND)
    assert found.cpu_seconds >= BURN_SECONDS * 0.9


def test_what_a_metered_program_leaves_behind_for_long_is_ended() -> None:
    _, said = _metered(sys.executable, "-c", _FOREVER)
    with pytest.raises(ProcessLookupError):
        os.kill(int(said.split()[0]), 0)


async def test_threads_are_told_from_the_main_thread() -> None:
    def compress() -> None:
        block = bytes(range(256)) * (1 << 14)
        for _ in range(200):
            hash(memoryview(block).tobytes())

    with sampling() as stages:
        await asyncio.to_thread(compress)
    assert stages.cpu_seconds > 0
    assert stages.seconds[THREADS] > stages.cpu_seconds / 2
