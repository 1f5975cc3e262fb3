"""A real PostgreSQL of the tests' own: one server for a run of pytest, on a socket in a
temporary directory. The server ends with pytest, however that ends."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

START_SECONDS = 60
USER = "hoody"  # of the database; nothing to do with the system's users


def binaries() -> Path | None:
    """Where PostgreSQL's newest server binaries are; None where there are none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    on_path = shutil.which("postgres")
    if found:
        return found[-1].parent
    return Path(on_path).resolve().parent if on_path else None


def _account() -> str | None:
    """Who has to run the server: PostgreSQL refuses root, and Debian has a user for it."""
    if os.geteuid() != 0:
        return None
    pwd.getpwnam("postgres")
    return "postgres"


class Postgres:
    """A server; between `start` and `stop` its databases can be used."""

    def __init__(self, directory: Path) -> None:
        found = binaries()
        if found is None:
            raise FileNotFoundError("no PostgreSQL server binaries")
        self._binaries = found
        self._directory = directory
        self._account = _account()
        self._process: subprocess.Popen[bytes] | None = None
        if self._account:
            shutil.chown(directory, self._account)
        self._run("initdb", "-A", "trust", "-U", USER, "--no-sync", "-D", str(self._data))

    @classmethod
    def make(cls) -> Self:
        """A server in a directory of its own; `remove` takes both away."""
        return cls(Path(tempfile.mkdtemp(prefix="hoody-postgres-")))

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    def start(self) -> None:
        """Start, and wait until it answers."""
        # The kernel ends it when pytest dies, also of kill -9.
        tied = ["setpriv", "--pdeathsig", "INT"]
        if self._account:
            tied += [f"--reuid={self._account}", f"--regid={self._account}", "--init-groups"]
        options = ["-c", "listen_addresses=", "-c", "fsync=off", "-k", str(self._directory)]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*tied, str(self._binaries / "postgres"), "-D", str(self._data), *options],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS
        ready = [str(self._binaries / "pg_isready"), "-q", "-h", str(self._directory)]
        while subprocess.run(ready, check=False).returncode != 0:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self._directory / "log").read_text())
            time.sleep(0.05)

    def stop(self) -> None:
        """Cut every connection and stop; nothing that was committed is lost."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(START_SECONDS)
            self._process = None

    def remove(self) -> None:
        """Stop, and delete everything."""
        self.stop()
        shutil.rmtree(self._directory)

    def url(self, database: str) -> str:
        """The address of a database, as the config has it."""
        return f"postgresql://{USER}@/{database}?host={self._directory}"

    def create(self, database: str, template: str = "template0") -> None:
        """Make a database that is a copy of another one."""
        self._client("createdb", "-T", template, database)

    def drop(self, database: str) -> None:
        """Delete a database, whoever still uses it."""
        self._client("dropdb", "--force", database)

    def _client(self, program: str, *arguments: str) -> None:
        self._run(program, "-h", str(self._directory), "-U", USER, *arguments)

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._binaries / program), *arguments],
            cwd=self._directory,
            user=self._account,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{program}: {done.stderr}")
