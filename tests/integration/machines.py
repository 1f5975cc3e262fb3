"""Machines of the tests' own: each a set of namespaces with a network card, `/etc`, `/srv` and
`/var/lib` that nobody else has. Needs root; all of it ends with pytest, however that ends."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.integration.command_line import MODULES, ROOT

SECONDS_MAX = 120
LASTS_SECONDS = 3600
NETWORK = "10.77.0"
PLACES = {"etc": "/etc", "srv": "/srv", "lib": "/var/lib"}

_SET_UP = "".join(f'mount --bind "$1/{own}" {path} && ' for own, path in PLACES.items())


def missing() -> str | None:
    """Why there can be no machines here; None where there can."""
    if os.geteuid() != 0:
        return "namespaces need root"
    if shutil.which("ip") is None:
        return "install the package iproute2"
    made = subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "true"], check=False)
    return None if made.returncode == 0 else "the kernel allows no namespaces"


@dataclass
class Machine:
    """`name` is its host name, `directory` holds what it has in PLACES."""

    name: str
    directory: Path
    _namespaces: subprocess.Popen[str] = field(init=False)
    _launched: list[subprocess.Popen[bytes]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        for own in PLACES:
            (self.directory / own).mkdir(parents=True)
        for file in ("passwd", "group", "nsswitch.conf"):
            shutil.copy(f"/etc/{file}", self.directory / "etc")
        tied = ["setpriv", "--pdeathsig", "KILL"]
        kept = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        script = f"{_SET_UP} ip link set lo up && echo up && exec sleep {LASTS_SECONDS}"
        self._namespaces = subprocess.Popen(
            [*tied, "unshare", *kept, "sh", "-c", script, "sh", str(self.directory)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._namespaces.stdout is not None
        assert self._namespaces.stdout.readline() == "up\n", self.name

    @property
    def pid(self) -> int:
        """The first process in its namespaces."""
        return psutil.Process(self._namespaces.pid).children()[0].pid

    @property
    def network(self) -> list[str]:
        """What a command begins with that has its network, and nothing else of it."""
        return ["nsenter", "--target", str(self.pid), "--net"]

    @property
    def log(self) -> Path:
        """What the script that was launched last has said."""
        return self.directory / "log"

    def launch(self, script: str, path: str) -> subprocess.Popen[bytes]:
        """Starts a shell script, as its root, with the commands in `path`."""
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                self._shell(script), cwd="/", env=_environment(path), stdout=log, stderr=log
            )
        self._launched.append(process)
        return process

    def run(self, script: str, path: str) -> tuple[int, str]:
        """How the script ends, and all that it says."""
        done = subprocess.run(
            self._shell(script),
            cwd="/",
            env=_environment(path),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
        return done.returncode, done.stdout

    def _shell(self, script: str) -> list[str]:
        return [*self.network, "--mount", "--pid", "sh", "-euc", script]

    def stop(self) -> None:
        """Ends it, with everything that runs on it."""
        assert self._namespaces.stdout is not None
        self._namespaces.stdout.close()
        self._namespaces.kill()
        for process in (self._namespaces, *self._launched):
            process.wait(SECONDS_MAX)


class Machines(AbstractContextManager["Machines"]):
    """Two machines with a cable between them, who know each other and `db.example` by name; the
    database is on the first one's address."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.all: list[Machine] = []

    def __enter__(self) -> Self:
        try:
            for name in ("one.example", "two.example"):
                self.all.append(Machine(name, self._directory / name))
            self._connect()
        except BaseException:
            self._tear_down()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._tear_down()

    @property
    def path(self) -> str:
        """Where the commands are: those of this tree, and an `scp` from machine to machine."""
        commands = self._directory / "bin"
        if not commands.exists():
            commands.mkdir()
            for name, module in MODULES.items():
                _command(commands / name, f'exec {sys.executable} -m {module} "$@"')
            _command(commands / "scp", f'cp -p "{self._directory}/${{2%%:*}}${{2#*:}}" "$3"')
        return f"{commands}:{os.environ['PATH']}"

    def _connect(self) -> None:
        ends = [("card", "netns", str(machine.pid)) for machine in self.all]
        _ip("link", "add", *ends[0], "type", "veth", "peer", "name", *ends[1])
        names = [f"{NETWORK}.1 db.example"]
        for number, machine in enumerate(self.all, start=1):
            for words in (
                ["addr", "add", f"{NETWORK}.{number}/24", "dev", "card"],
                ["link", "set", "card", "up"],
            ):
                subprocess.run([*machine.network, "ip", *words], check=True)
            names.append(f"{NETWORK}.{number} {machine.name}")
        for machine in self.all:
            (machine.directory / "etc/hosts").write_text("\n".join(names) + "\n")

    def _tear_down(self) -> None:
        for machine in self.all:
            machine.stop()


def _environment(path: str) -> dict[str, str]:
    return {"PATH": path, "HOME": "/var/lib", "PYTHONPATH": str(ROOT)}


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, timeout=SECONDS_MAX)


def _command(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
