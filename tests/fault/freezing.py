"""`hoodyd` whose workers stop at the boundary of a step that a test names, and whose exporters
halt in mid-stream (halting.py).

    python -m tests.fault.freezing run --config …

A boundary lies before and after each transaction in which an action writes to the catalogue: every
step, every checkpoint, every commit. (What the Meter shows is written by the clock, and is none.)
The worker notes each that it passes; at the one that was ordered it stops itself, once, as
`kill -STOP` does. What becomes of it then is the test's: -9, a cancel, or `kill -CONT`.

All of it goes by files beside the config, one a subject, which is the name of what the job is
about: `passed` has a line for each boundary, `ordered` names one, `frozen` says who stopped there.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from daemon import children, lines, worker
from daemon.cli import main
from daemon.model import Job, JobType
from daemon.store.database import Database, Tx
from daemon.worker import Means
from tests.fault import halting

FOLDERS = ("passed", "ordered", "frozen")


def subject_of(job: Job) -> str:
    """What a test knows before there is the job: its type, and its container; of a copy the
    source, and of a new one the directory's name or the image."""
    about = job.container_id
    if job.type is JobType.COPY:
        about = str(job.source_container_id)
    if job.type is JobType.CREATE:
        about = os.path.basename(str(job.params.get("source_path") or job.params["image"]))
    return f"{job.type}-{about}"


class Watch:
    """One attempt, seen passing its boundaries."""

    def __init__(self, directory: Path, job: Job) -> None:
        self._passed, self._ordered, self._frozen = (
            directory / folder / subject_of(job) for folder in FOLDERS
        )
        self._job = job
        self._seen: dict[str, int] = {}

    def passes(self, side: str, place: str) -> None:
        """Notes the boundary, and stops there where that was ordered."""
        bare = f"{side} {place}"
        self._seen[bare] = self._seen.get(bare, 0) + 1
        boundary = f"{bare} {self._seen[bare]}"
        with self._passed.open("a") as passed:
            passed.write(f"{self._job.id} {self._job.attempt} {boundary}\n")
        if self._ordered.exists() and self._ordered.read_text() == boundary:
            self._ordered.unlink()
            said = self._frozen.with_suffix(".tmp")
            here = {"pid": os.getpid(), "job_id": self._job.id, "boundary": boundary}
            said.write_text(json.dumps(here))
            said.replace(self._frozen)
            os.kill(os.getpid(), signal.SIGSTOP)


class WatchedDatabase:
    """The catalogue, whose writers are seen. Nobody stops while the Meter writes: on SQLite all
    servers would wait for a turn to write until the test ends."""

    def __init__(self, db: Database, watch: Watch) -> None:
        self._db = db
        self._watch = watch
        self._metering = asyncio.Lock()
        self.read = db.read

    def write(self) -> AbstractAsyncContextManager[Tx]:
        place = _place(sys._getframe(1))
        return self._writing(place) if place else self._showing()

    @asynccontextmanager
    async def _writing(self, place: str) -> AsyncIterator[Tx]:
        await self._passes("before", place)
        async with self._db.write() as tx:
            yield tx
        await self._passes("after", place)

    async def _passes(self, side: str, place: str) -> None:
        async with self._metering:
            self._watch.passes(side, place)

    @asynccontextmanager
    async def _showing(self) -> AsyncIterator[Tx]:
        async with self._metering, self._db.write() as tx:
            yield tx


def _place(frame: FrameType) -> str | None:
    """What a writer writes: the step, what is remembered, or else the function; None for the
    Meter."""
    name = frame.f_code.co_qualname
    if name == "Meter.show":
        return None
    if name == "Context.step":
        return f"step {frame.f_locals['step']}"
    if name == "Context.remember":
        return f"remember {' '.join(frame.f_locals['facts'])}"
    return f"{frame.f_globals['__name__'].removeprefix('daemon.actions.')}.{name}"


def watch_attempts(directory: Path) -> None:
    """Has every attempt of this process watched."""
    attempt = worker.attempt

    async def watched(means: Means, job: Job) -> lines.Message:
        db: Any = WatchedDatabase(means.db, Watch(directory, job))
        return await attempt(replace(means, db=db), job)

    worker.attempt = watched


def run() -> None:
    """`hoodyd`, as the command line says."""
    directory = Path(sys.argv[-1]).parent
    if sys.argv[1] == "worker":
        watch_attempts(directory)
    if sys.argv[1] == "exporter":
        halting.halt_streams(directory / halting.ORDER)
    main()


if __name__ == "__main__":
    children.PROGRAM = (sys.executable, "-m", "tests.fault.freezing")
    run()
