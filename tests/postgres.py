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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

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


@contextmanager
def serving() -> Iterator[Postgres]:
    """A running server, for as long as the block lasts. The test is skipped where PostgreSQL is
    missing; under CI=true it fails."""
    if binaries() is None:
        reason = "no PostgreSQL: install the package postgresql"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    server = Postgres.make()
    try:
        server.start()
        yield server
    finally:
        server.remove()


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

    def start(self, *settings: str, within: Sequence[str] = ()) -> None:
        """Start, and wait until it answers on its socket. `settings` come on top of those for
        tests, as in `ssl=on`; `within` is how a command enters another network."""
        # The kernel ends it when pytest dies, also of kill -9.
        tied = [*within, "setpriv", "--pdeathsig", "INT"]
        if self._account:
            tied += [f"--reuid={self._account}", f"--regid={self._account}", "--init-groups"]
        options = ["-k", str(self._directory)]
        for setting in ("listen_addresses=", "fsync=off", *settings):
            options += ["-c", setting]
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

    def stop(self, *, immediately: bool = False) -> None:
        """Cut every connection and stop; `immediately` is as in a crash. Nothing that was
        committed is lost."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT if immediately else signal.SIGINT)
            self._process.wait(START_SECONDS)
            self._process = None

    def remove(self) -> None:
        """Stop, and delete everything."""
        self.stop()
        shutil.rmtree(self._directory)

    def allow(self, line: str) -> None:
        """Add a line to those that say who may come in from where; in force at the next start."""
        with (self._data / "pg_hba.conf").open("a") as file:
            file.write(f"{line}\n")

    def keep(self, file: Path) -> Path:
        """Copy a file to where the server, and nobody else, can read it; the copy's path."""
        kept = self._directory / file.name
        shutil.copy(file, kept)
        kept.chmod(0o600)
        if self._account:
            shutil.chown(kept, self._account)
        return kept

    def url(self, database: str, user: str = USER) -> str:
        """The address of a database, as the config has it."""
        return f"postgresql://{user}@/{database}?host={self._directory}"

    def create(self, database: str, template: str = "template0") -> None:
        """Make a database that is a copy of another one."""
        self._client("createdb", "-T", template, database)

    def create_user(self, name: str) -> None:
        """Make a user who may do everything."""
        self._client("createuser", "--superuser", name)

    def cut(self, user: str) -> int:
        """End all connections of a user, and wait for their ends; how many they were."""
        ends = f"pg_terminate_backend(pid, {START_SECONDS * 1000})"
        mine = f"SELECT {ends} FROM pg_stat_activity WHERE usename = '{user}'"
        return self.ask("postgres", mine).count("t")

    def ask(self, database: str, query: str) -> str:
        """What a query says: a line for each row."""
        return self._client("psql", "-AtX", "-d", database, "-c", query)

    def drop(self, database: str) -> None:
        """Delete a database, whoever still uses it."""
        self._client("dropdb", "--force", database)

    def _client(self, program: str, *arguments: str) -> str:
        return self._run(program, "-h", str(self._directory), "-U", USER, *arguments)

    def _run(self, program: str, *arguments: str) -> str:
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
        return done.stdout
