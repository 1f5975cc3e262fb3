"""The real parts that tests run on: a private zfs-fuse and its pools, or those of the kernel's
module where `HOODY_TEST_ZFS=kernel` (see tests/openzfs).

The mount namespace is entered when pytest starts, before it has threads; the daemon is started
when the first test asks for a pool. Everything is gone when pytest ends, however it ends.
"""

from __future__ import annotations

import gc
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests import kernel_zfs
from tests.kernel_zfs import KERNEL
from tests.sturdy_zfs import SturdyZfs
from transfer.storage import private_zfs

POOL_BYTES = 256 << 20
ZFS_MISSING = kernel_zfs.available() if KERNEL else private_zfs.available()

SCRATCH = "/dev/shm"
SCRATCH_BYTES = 12 << 30

MakePool = Callable[..., str]


def pytest_configure() -> None:
    _work_in_memory()
    # A shell that starts us in the background has Ctrl-C ignored, and what we start inherits that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if ZFS_MISSING is None and not KERNEL:
        private_zfs.enter_namespace()


def _work_in_memory() -> None:
    """What tests make, they delete again, a million small files: on a disk that costs more than
    what they test. So they do it in memory where there is plenty, unless TMPDIR says otherwise."""
    if "TMPDIR" in os.environ or not os.path.ismount(SCRATCH):
        return
    if min(psutil.virtual_memory().available, psutil.disk_usage(SCRATCH).free) >= SCRATCH_BYTES:
        os.environ["TMPDIR"] = SCRATCH
        tempfile.tempdir = None


def pytest_collection_finish() -> None:
    """The tests themselves are a large heap, which a collection goes through for nothing: a third
    of the time of a small test."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("zfs") is None or ZFS_MISSING is None:
        return
    reason = f"no ZFS for tests: {ZFS_MISSING}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def zfs_daemon() -> Iterator[private_zfs.PrivateZfs]:
    """A private zfs-fuse, one for the whole run, or what stands for it."""
    with kernel_zfs.KernelZfs() if KERNEL else SturdyZfs() as daemon:
        yield daemon


@pytest.fixture
def zfs_pool(zfs_daemon: private_zfs.PrivateZfs) -> Iterator[MakePool]:
    """Makes pools: `zfs_pool("a")`, `zfs_pool("b", size_bytes=…)` -> the pool's name."""
    made: list[str] = []
    with tempfile.TemporaryDirectory(prefix="hoody-pools-") as directory:

        def make(pool: str, size_bytes: int = POOL_BYTES) -> str:
            zfs_daemon.create_pool(pool, str(Path(directory) / pool), size_bytes)
            made.append(pool)
            return pool

        yield make
        for pool in made:
            zfs_daemon.destroy_pool(pool)
