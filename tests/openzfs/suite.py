"""The project's own tests, run inside of a machine that has the real module."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence

from tests.openzfs.machine import Machine

# Emulation is ten times slower than the machine it runs on.
TEST_SECONDS = 1800
LOOK_SECONDS = 60.0
DEADLINE_STATUS = 124


def run_tests(machine: Machine, arguments: Sequence[str], seconds: float) -> int:
    """Runs pytest in the machine; what it says goes to our stdout. Returns its exit status, or
    that of a deadline with a look at what hangs."""
    # The plugin of schemathesis is not needed here, and takes half a minute to import.
    plugins = ("-p", "no:cacheprovider", "-p", "no:schemathesis")
    pytest = ["python3", "-u", "-m", "pytest", "-v", *plugins]
    # Nothing of it may be skipped, and its pools are the module's.
    settings = ["CI=true", "HOODY_TEST_ZFS=kernel", f"COLUMNS={os.environ.get('COLUMNS', '100')}"]
    shell_command = shlex.join(["env", *settings, *pytest, f"--timeout={TEST_SECONDS}", *arguments])
    argv = machine.argv(f"cd /root/project && {shell_command}")
    try:
        return subprocess.run(argv, check=False, timeout=seconds).returncode
    except subprocess.TimeoutExpired:
        print(f"openzfs: not done after {seconds:.0f} s\n{_look(machine)}", file=sys.stderr)
        return DEADLINE_STATUS


def _look(machine: Machine) -> str:
    """The processes of the machine and where they wait, or its console where it is stuck."""
    try:
        return machine.run("ps", "-eo", "pid,stat,wchan:24,time,args", seconds=LOOK_SECONDS)
    except subprocess.SubprocessError:
        return machine.console
