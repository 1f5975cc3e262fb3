"""A real sshd on loopback, with keys of its own, for the peers and the ceilings."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 15.0
POLL_SECONDS = 0.05
_PRIVILEGE_SEPARATION = "/run/sshd"

_CONFIG = """\
ListenAddress 127.0.0.1:{port}
HostKey {directory}/host
AuthorizedKeysFile {directory}/client.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
LogLevel ERROR
SetEnv PATH={path}
"""


@dataclass(frozen=True, slots=True)
class Sshd:
    """A running one: as `root` with the file `key` one gets in. The first folder on the path of
    what it starts is `programs`."""

    pid: int
    port: int
    key: str
    programs: str

    def options(self) -> list[str]:
        """What `ssh` needs to get in."""
        quiet = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"]
        more = [part for option in quiet for part in ("-o", option)]
        return ["-p", str(self.port), "-i", self.key, *more]


def available() -> str | None:
    """None where there is an sshd, else the reason why not."""
    return None if _program() else "not installed: sshd"


def _program() -> str | None:
    # It wants to be started by its full path, which is not on everybody's.
    return shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")


@contextmanager
def running(directory: str) -> Iterator[Sshd]:
    """One that ends with the block; its files are in `directory`."""
    here = Path(directory)
    programs = here / "programs"
    programs.mkdir(parents=True)
    for name in ("host", "client"):
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(here / name)]
        subprocess.run(argv, check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = f"{programs}:{os.environ['PATH']}"
    config = here / "sshd_config"
    config.write_text(_CONFIG.format(port=port, directory=here, path=path), encoding="utf-8")
    Path(_PRIVILEGE_SEPARATION).mkdir(mode=0o755, exist_ok=True)
    process = subprocess.Popen([_program() or "sshd", "-D", "-E", f"{here}/log", "-f", str(config)])
    try:
        _wait(process, port)
        yield Sshd(process.pid, port, str(here / "client"), str(programs))
    finally:
        process.terminate()
        process.wait()


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(POLL_SECONDS)
    raise OSError("sshd does not start")
