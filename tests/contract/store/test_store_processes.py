"""Several programs on one catalogue, and what is left of one that is killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sqlalchemy import text

from daemon.store import events
from daemon.store.database import Database
from daemon.store.sequence import next_sequence

PROGRAMS = 4
COMMITS = 40
MANY = 1_000_000

WRITER = Path(__file__).with_name("writer.py")
ROOT = WRITER.parents[3]


def start(url: str, name: str, commits: int) -> subprocess.Popen[str]:
    """A program that writes, and fails on any warning, so also on what it leaves open."""
    command = [sys.executable, "-W", "error", str(WRITER), url, name, str(commits)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": ROOT})


async def written(db: Database, name: str) -> list[int]:
    """The numbers that a program's events have, in the order of their commits."""
    async with db.read() as tx:
        found = await events.since(tx, 0, MANY)
    return [int(str(event.data["number"])) for event in found if event.kind == name]


async def test_programs_that_write_at_once_all_succeed(db: Database, url: str) -> None:
    names = [f"writer{number}" for number in range(PROGRAMS)]
    programs = [start(url, name, COMMITS) for name in names]
    for program in programs:
        program.communicate(timeout=120)
    assert [program.returncode for program in programs] == [0] * PROGRAMS
    for name in names:
        assert await written(db, name) == list(range(COMMITS))
    async with db.read() as tx:
        given = [event.data["sequence"] for event in await events.since(tx, 0, MANY)]
    assert given == list(range(1, PROGRAMS * COMMITS + 1))


async def test_kill_9_loses_nothing_that_was_committed(db: Database, url: str) -> None:
    for turn in range(3):
        name = f"killed{turn}"
        program = start(url, name, MANY)
        assert program.stdout is not None
        for _ in range(20 + turn):
            program.stdout.readline()
        program.kill()
        confirmed = [*range(20 + turn), *map(int, program.stdout.read().split())]
        program.stdout.close()
        program.wait()
        async with db.write() as tx:
            await next_sequence(tx)
        kept = await written(db, name)
        assert kept[: len(confirmed)] == confirmed
        assert len(kept) - len(confirmed) in (0, 1)
    if url.startswith("sqlite"):
        async with db.read() as tx:
            assert (await tx.execute(text("PRAGMA integrity_check"))).scalar_one() == "ok"
