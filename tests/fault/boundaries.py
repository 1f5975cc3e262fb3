"""The test's side of `freezing.py` and `halting.py`: clusters whose workers stop, and whose streams
halt, where they are told to."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from tests.acceptance.cluster import Cluster, Settings
from tests.fault.freezing import FOLDERS
from tests.fault.halting import ORDER
from transfer.storage.private_zfs import PrivateZfs

FREEZE_SECONDS = 240.0
POLL_SECONDS = 0.1

LANES = 40
"""How many jobs may be in hand beside each other, frozen or not."""

WIDE: Settings = {
    "server": {"max_containers": 10_000},
    "transfer": {"max_concurrent": LANES, "exporters": 1, "collect_grace_seconds": 0},
    "timing": {"heartbeat_seconds": 20, "server_lost_seconds": 600, "sweep_seconds": 5},
}


class FreezingCluster(Cluster):
    """A cluster whose daemons are `freezing.py`."""

    program = "tests.fault.freezing"

    def __enter__(self) -> Self:
        for folder in FOLDERS:
            (self.directory / folder).mkdir()
        return super().__enter__()

    def halt(self, after_bytes: int) -> None:
        """From now on streams wait once so many more bytes were sent."""
        fresh = self.directory / f"{ORDER}.tmp"
        fresh.write_text(str(after_bytes))
        fresh.replace(self.directory / ORDER)

    def go_on(self) -> None:
        """No stream waits any more."""
        (self.directory / ORDER).unlink(missing_ok=True)


class ForkingCluster(FreezingCluster):
    """One whose daemons' children start quickly."""

    program = "tests.fault.forking"


MakeCluster = Callable[..., FreezingCluster]


@contextmanager
def freezing_cluster(backend: str = "dir", zfs: PrivateZfs | None = None) -> Iterator[Cluster]:
    """Two servers."""
    with (
        tempfile.TemporaryDirectory(prefix="hoody-") as name,
        ForkingCluster(Path(name), backend, 2, zfs=zfs, settings=WIDE) as cluster,
    ):
        yield cluster


@dataclass(frozen=True, slots=True)
class Frozen:
    """A worker that has stopped, the job that it has in hand, and where that is."""

    process: psutil.Process
    job_id: str
    boundary: str

    def kill(self) -> None:
        """-9."""
        self.process.kill()

    def resume(self) -> None:
        """Lets it go on as if nothing had been."""
        os.kill(self.process.pid, signal.SIGCONT)


def order(cluster: Cluster, subject: str, boundary: str) -> None:
    """The next job about this stops at the boundary."""
    at = cluster.directory / "frozen" / subject
    at.unlink(missing_ok=True)
    (cluster.directory / "ordered" / subject).write_text(boundary)


async def frozen(cluster: Cluster, subject: str) -> Frozen:
    """Who was ordered to stop, once it has."""
    at = cluster.directory / "frozen" / subject
    async with asyncio.timeout(FREEZE_SECONDS):
        while not at.exists():
            await asyncio.sleep(POLL_SECONDS)
        said = json.loads(at.read_text())
        found = Frozen(psutil.Process(said["pid"]), said["job_id"], said["boundary"])
        while found.process.status() != psutil.STATUS_STOPPED:
            await asyncio.sleep(POLL_SECONDS)
    return found


def forget(cluster: Cluster, subject: str) -> None:
    """What was noted of jobs about this until now."""
    (cluster.directory / "passed" / subject).unlink(missing_ok=True)


async def job_about(cluster: Cluster, subject: str) -> str:
    """The only job about this, once it has begun."""
    at = cluster.directory / "passed" / subject
    async with asyncio.timeout(FREEZE_SECONDS):
        while not at.exists() or not (noted := at.read_text()):
            await asyncio.sleep(POLL_SECONDS)
    return noted.split(" ", 1)[0]


def passed(cluster: Cluster, subject: str) -> list[str]:
    """The boundaries that jobs about this have passed."""
    noted = (cluster.directory / "passed" / subject).read_text().splitlines()
    return [line.split(" ", 2)[2] for line in noted]
