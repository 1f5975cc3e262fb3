"""The project's own tests, run inside of machines that have the real module."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import IO

from tests.openzfs.disks import ROOT
from tests.openzfs.machine import Machine

# Emulation is ten times slower than the machine it runs on.
TEST_SECONDS = 900
LOOK_SECONDS = 60.0
DEADLINE_STATUS = 124

_CONTRACT = "tests/contract"
_ACCEPTANCE = "tests/acceptance"
_HUSKS = f"{_CONTRACT}/engine/test_collect_husks.py"
_LOOK = f"{_CONTRACT}/engine/test_look.py"
_FIRST: tuple[tuple[str, ...], ...] = (
    ("tests/openzfs/inside",),
    (
        f"{_CONTRACT}/engine/test_replication.py",
        f"{_CONTRACT}/engine/test_strategy.py",
        f"{_CONTRACT}/engine/test_bases_bookmarks.py",
    ),
    (f"{_CONTRACT}/test_storage_zfs_faults.py",),
    (f"{_ACCEPTANCE}/test_spine.py::test_copies_follow_their_source",),
    (
        f"{_HUSKS}::test_after_a_promotion_on_both_sides_a_sync_is_an_increment",
        f"{_HUSKS}::test_a_history_with_a_restore_in_it_goes_on_to_a_third_container",
        f"{_LOOK}::test_a_copy_of_a_copy_is_behind_what_its_source_became",
    ),
    (f"{_CONTRACT}/test_storage.py",),
    (f"{_CONTRACT}/test_storage_promote.py", f"{_CONTRACT}/test_storage_look.py"),
)
_REST = f"{_CONTRACT}/test_storage*.py"
_OF_FUSE = frozenset({f"{_CONTRACT}/test_storage_zfs_mounting.py"})
_REST_PIECES = 2


def pieces() -> list[tuple[str, ...]]:
    """What runs where nothing else is asked for: the contract of the storage, replication, two
    servers from end to end, and what can be shown on the kernel's module alone. What takes long
    comes first, for the machines to end at about the same time; few pieces, for Python takes long
    to start."""
    named = {name.partition("::")[0] for piece in _FIRST for name in piece}
    there = {str(path.relative_to(ROOT)) for path in ROOT.glob(_REST)}
    rest = sorted(there - named - _OF_FUSE)
    return [*_FIRST, *(tuple(rest[at::_REST_PIECES]) for at in range(_REST_PIECES))]


def run_tests(
    machine: Machine, arguments: Sequence[str], seconds: float, out: IO[bytes] | None = None
) -> int:
    """Runs pytest's zfs tests in the machine; what it says goes to `out`, or to our stdout.
    Returns its exit status, or that of a deadline with a look at what hangs."""
    # Plugins that are not needed here: to import them takes up to half a minute.
    unused = ("cacheprovider", "schemathesis", "hypothesispytest", "xdist", "anyio")
    plugins = [part for name in unused for part in ("-p", f"no:{name}")]
    pytest = ["python3", "-u", "-m", "pytest", "-v", "-m", "zfs", "--durations=5", *plugins]
    # Nothing of it may be skipped, and its pools are the module's.
    settings = ["CI=true", "HOODY_TEST_ZFS=kernel", "TMPDIR=/dev/shm"]
    settings.append(f"COLUMNS={os.environ.get('COLUMNS', '100')}")
    shell_command = shlex.join(["env", *settings, *pytest, f"--timeout={TEST_SECONDS}", *arguments])
    argv = machine.argv(f"cd /root/project && {shell_command}")
    try:
        return subprocess.run(argv, check=False, timeout=seconds, stdout=out).returncode
    except subprocess.TimeoutExpired:
        said = f"openzfs: not done after {seconds:.0f} s\n{_look(machine)}"
        print(said, file=sys.stderr, flush=True)
        return DEADLINE_STATUS


def run_pieces(machines: Sequence[Machine], todo: Sequence[Sequence[str]], seconds: float) -> int:
    """Runs pieces of the suite, each in the first machine that is free; what it says is told when
    it has ended. Returns the worst exit status."""
    free: SimpleQueue[Machine] = SimpleQueue()
    for machine in machines:
        free.put(machine)
    deadline = time.monotonic() + seconds

    def run(piece: Sequence[str]) -> int:
        machine = free.get()
        began = time.monotonic()
        with tempfile.TemporaryFile() as out:
            status = run_tests(machine, piece, max(deadline - began, 0), out)
            out.seek(0)
            said = out.read().decode(errors="replace")
        free.put(machine)
        spent = time.monotonic() - began
        head = f"openzfs: {' '.join(piece)}: status {status} after {spent:.0f} s"
        print(f"{head}\n{said}", flush=True)
        return status

    with ThreadPoolExecutor(len(machines)) as threads:
        return max(threads.map(run, todo))


def _look(machine: Machine) -> str:
    """The processes of the machine and where they wait, or its console where it is stuck."""
    try:
        return machine.run("ps", "-eo", "pid,stat,wchan:24,time,args", seconds=LOOK_SECONDS)
    except subprocess.SubprocessError:
        return machine.console
