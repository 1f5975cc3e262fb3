"""`make test-openzfs`: the zfs tests on the real module, in a machine made of Debian packages.

cache    what took long to make, whole or not at all
debian   packages, by an apt of its own from this machine's mirrors
image    the module, the kernel and the root that a machine starts from
machine  qemu: start, save, reset, crash, boot again, run in it
disks    the project and the Python that it needs
suite    pytest in the machine
inside   tests for there alone: what only the kernel's module can show

`OPENZFS=backports` takes OpenZFS 2.3 instead of 2.1. The arguments are pytest's; without any, the
zfs part of the storage contract, and those of `inside`. As root on Debian. What needs two machines
is in `test_*.py` here, for pytest on this host.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.openzfs.cache import cache_root
from tests.openzfs.debian import NoPackages, chosen_suite
from tests.openzfs.disks import ROOT, project_disk, python_disk
from tests.openzfs.image import image
from tests.openzfs.machine import Machine, MachineFailed
from tests.openzfs.suite import run_tests

SUITE_SECONDS = 2400.0


def main(arguments: Sequence[str]) -> int:
    """Makes what is not there yet, runs the tests, returns pytest's exit status."""
    found = [
        *ROOT.glob("tests/contract/test_storage*.py"),
        *ROOT.glob("tests/openzfs/inside/test_*.py"),
    ]
    wanted = arguments or [str(path.relative_to(ROOT)) for path in sorted(found)]
    started = time.monotonic()
    try:
        cache = cache_root()
        base = image(cache, chosen_suite())
        python = python_disk(cache)
        with tempfile.TemporaryDirectory(prefix="hoody-openzfs-") as work:
            disks = [python, project_disk(Path(work))]
            with Machine(base, Path(work), disks=disks) as machine:
                version = machine.run("zfs", "version", seconds=60).split()
                spent = time.monotonic() - started
                print(f"openzfs: {' '.join(version)}, up after {spent:.0f} s", flush=True)
                return run_tests(machine, ["-m", "zfs", *wanted], SUITE_SECONDS)
    except (NoPackages, MachineFailed) as error:
        print(f"openzfs: {error}", file=sys.stderr)
        return 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
