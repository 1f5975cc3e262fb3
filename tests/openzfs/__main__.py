"""`make test-openzfs`: the zfs tests on the real module, in machines made of Debian packages.

cache    what took long to make, whole or not at all
debian   packages, by an apt of its own from this machine's mirrors
image    the module, the kernel and the root that a machine starts from
machine  qemu: start, save, reset, crash, boot again, run in it
disks    the project and the Python that it needs
suite    pytest in machines, side by side
inside   tests for there alone: what only the kernel's module can show
servers  our daemons on two machines, for the tests that cut a link or a machine's power

`OPENZFS=backports` takes OpenZFS 2.3 instead of 2.1. The arguments are pytest's, for one machine;
without any, two machines share what `suite` names. As root on Debian. What needs two machines at
once is in `test_*.py` here, for pytest on this host.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.openzfs.cache import cache_root
from tests.openzfs.debian import NoPackages, chosen_suite
from tests.openzfs.disks import project_disk
from tests.openzfs.image import image_and_python
from tests.openzfs.machine import Machine, MachineFailed
from tests.openzfs.suite import pieces, run_pieces, run_tests

SUITE_SECONDS = 2700.0
NO_MACHINE_STATUS = 3


def main(arguments: Sequence[str]) -> int:
    """Makes what is not there yet, runs the tests, returns pytest's exit status."""
    started = time.monotonic()
    try:
        base, python = image_and_python(cache_root(), chosen_suite())
        with ExitStack() as stack:
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hoody-openzfs-")))
            disks = [python, project_disk(work)]
            numbers = [1] if arguments else [1, 2]
            machines = [
                stack.enter_context(Machine(base, work, number, disks)) for number in numbers
            ]
            version = machines[0].run("zfs", "version", seconds=60).split()
            spent = time.monotonic() - started
            print(f"openzfs: {' '.join(version)}, up after {spent:.0f} s", flush=True)
            if arguments:
                return run_tests(machines[0], arguments, SUITE_SECONDS)
            return run_pieces(machines, pieces(), SUITE_SECONDS)
    except (NoPackages, MachineFailed) as error:
        print(f"openzfs: {error}", file=sys.stderr)
        return NO_MACHINE_STATUS


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
