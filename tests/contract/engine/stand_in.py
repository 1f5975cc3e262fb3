"""A stand-in for the daemon's children: a package `daemon` that is found before the real one.

`python -m daemon worker --config DIRECTORY` looks first into the working directory. What the
worker says to a job is the next line of DIRECTORY/<job>; the last line is said again and again.
Some lines are deeds: `die`, `hang`. What it says first is in DIRECTORY/greeting, if that exists.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon.metrics import Metrics
from daemon.pool import Pool
from daemon.traffic import Counting

MAIN = """
import json, os, pathlib, sys, time

place = pathlib.Path(sys.argv[sys.argv.index("--config") + 1])

def say(line):
    if line == "die":
        os._exit(1)
    if line == "hang":
        (place / "hanging").touch()
        while sys.stdin.readline():
            pass
        os._exit(0)
    print(line, flush=True)

greeting = place / "greeting"
with (place / "started").open("a") as started:
    started.write(f"{os.getpid()}\\n")
say(greeting.read_text() if greeting.exists() else '{"ready": true}')
while order := sys.stdin.readline():
    script = place / json.loads(order).get("job", "none")
    first, *rest = script.read_text().splitlines()
    if rest:
        script.write_text("\\n".join(rest))
    say(first)
"""

DONE = json.dumps({"result": {"strategy": "clone"}})


def failure(code: str, *, retryable: bool) -> str:
    error = {"code": code, "message": "it failed", "retryable": retryable, "evidence": {}}
    return json.dumps({"error": error})


async def until(condition: Callable[[], object]) -> None:
    """Waits for what is coming; a test that waits in vain ends by its timeout."""
    while not condition():
        await asyncio.sleep(0.01)


class StandIn:
    """Children that do as they are told; `config_path` is what a pool of them is given."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        package = tmp_path / "stand-in" / "daemon"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(MAIN)
        self._scripts = tmp_path / "scripts"
        self._scripts.mkdir()
        self.config_path = str(self._scripts)
        self.metrics = Metrics()
        monkeypatch.chdir(package.parent)

    def pool(self, size: int) -> Pool:
        """A pool of them."""
        return Pool(self.config_path, size, Counting(self.metrics))

    def greet(self, line: str) -> None:
        (self._scripts / "greeting").write_text(line)

    def say(self, job_id: str, *answers: str) -> None:
        """What the job's attempts answer, one after the other."""
        (self._scripts / job_id).write_text("\n".join(answers))

    @property
    def hanging(self) -> bool:
        return (self._scripts / "hanging").exists()

    @property
    def pids(self) -> list[int]:
        """Every child that was ever started."""
        started = self._scripts / "started"
        return [int(line) for line in started.read_text().split()] if started.exists() else []

    @property
    def alive(self) -> list[int]:
        return [pid for pid in self.pids if Path(f"/proc/{pid}").exists()]
