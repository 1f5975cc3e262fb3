"""Two machines with a link between them, for the tests that need more than pools in one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel_zfs import KERNEL
from tests.openzfs.cache import cache_root
from tests.openzfs.debian import chosen_suite
from tests.openzfs.disks import project_disk
from tests.openzfs.image import image_and_python
from tests.openzfs.machine import Machine

# That is for pytest in a machine: what only the kernel's ZFS can show.
collect_ignore = [] if KERNEL else ["inside"]

Nodes = tuple[Machine, Machine]


@pytest.fixture(scope="session")
def nodes() -> Iterator[Nodes]:
    """node1 and node2, up, with two blank disks each; a test leaves them up."""
    base, python = image_and_python(cache_root(), chosen_suite())
    with tempfile.TemporaryDirectory(prefix="hoody-openzfs-") as name:
        work = Path(name)
        disks = [python, project_disk(work)]
        with Machine(base, work, 1, disks) as one, Machine(base, work, 2, disks) as two:
            yield one, two
