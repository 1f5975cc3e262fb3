"""Our daemons, each on a machine of its own, with a private link between them.

Their catalogue is a PostgreSQL of this host, which no fault of theirs reaches: an ssh connection
brings it to the machine, and the daemon's API here.
"""

from __future__ import annotations

import shlex
import subprocess
import time

from tests.acceptance.api import Api
from tests.acceptance.cluster import Settings, is_ready, toml
from tests.openzfs.machine import Machine
from tests.ports import free_port
from tests.postgres import Postgres
from transfer import command

READY_SECONDS = 300.0
COMMAND_SECONDS = 120.0
POLL_SECONDS = 0.1
RATE_BYTES = 2 << 20
IMPORTS = "/srv/trees"
_SOCKET = ".s.PGSQL.5432"
_CONFIG = "/etc/hoody/hoodyd.toml"
_LOG = "/var/log/hoodyd.log"
_SECRETS = ("/etc/hoody/jwt.secret", "/etc/hoody/sealing.key")
_HOODYD = "cd /root/project && exec python3 -m daemon"


class Server:
    """`hoodyd` on a machine, on a pool of its second blank disk. What it pulls comes slowly enough
    to be met on the way."""

    def __init__(self, machine: Machine, name: str, postgres: Postgres) -> None:
        """`name` is the machine's to the other one."""
        self.machine = machine
        self.name = name
        self._socket = postgres.url("hoody").rpartition("host=")[2]
        self._port = free_port()
        self._processes: list[subprocess.Popen[bytes]] = []

    def set_up(self, first: Server | None = None) -> None:
        """Makes the pool and the config, with the secrets of the `first` server if there is one,
        and all that `hoodyd init` makes."""
        self.shell("zpool create -f -m none -O atime=off tank /dev/vdc")
        self.shell("zfs create -o mountpoint=none tank/hoody")
        self.shell(f"mkdir -p /etc/hoody {IMPORTS}")
        self.shell(f"printf %s {shlex.quote(toml(self._settings()))} > {_CONFIG}")
        if first is not None:
            files = " ".join(f"{first.name}:{file}" for file in _SECRETS)
            self.shell(f"scp -p {files} /etc/hoody/")
        self._connect()
        self.hoodyd("init")

    def launch(self) -> None:
        """Starts the daemon and does not wait."""
        self._start(f"{_HOODYD} run >> {_LOG} 2>&1")

    def wait_ready(self) -> None:
        """Waits until readyz says so."""
        deadline = time.monotonic() + READY_SECONDS
        while not is_ready(self._url):
            assert time.monotonic() < deadline, f"{self.name} is not ready: {self.log()}"
            time.sleep(POLL_SECONDS)

    def cut_power(self) -> None:
        """The machine is off at once; its disks keep what had reached them."""
        self.machine.crash()
        self.end()

    def boot(self) -> None:
        """As after a power cut: the machine, its pool, the daemon. Not in a thread that ends: what
        a thread has started ends with it."""
        self.machine.boot()
        self.shell("zpool import -f tank")
        self._connect()
        self.launch()
        self.wait_ready()

    def end(self) -> None:
        """Lets go of a machine that is off, or is going to be."""
        while self._processes:
            process = self._processes.pop()
            process.kill()
            process.wait()

    def api(self) -> Api:
        """A client of it, as admin."""
        return Api(self._url, self.hoodyd("token --admin"))

    def hoodyd(self, arguments: str) -> str:
        """What a command of `hoodyd` prints; it must end well."""
        return self.shell(f"{_HOODYD} {arguments}").strip()

    def shell(self, text: str) -> str:
        """What a shell command prints; it must end well."""
        return self.machine.run("sh", "-ec", text, seconds=COMMAND_SECONDS)

    def log(self) -> str:
        """The end of what the daemon has logged."""
        return self.shell(f"tail -c 20000 {_LOG}")

    def _connect(self) -> None:
        """Brings the catalogue to the machine, and the daemon's API to this host."""
        forwards = (
            *("-R", f"/run/{_SOCKET}:{self._socket}/{_SOCKET}"),
            *("-L", f"127.0.0.1:{self._port}:127.0.0.1:8470"),
        )
        self._start("exec sleep infinity", *forwards)
        self.shell(f"until [ -S /run/{_SOCKET} ]; do sleep 0.1; done")

    def _start(self, shell_command: str, *forwards: str) -> None:
        argv = self.machine.argv(shell_command, *forwards)
        self._processes.append(command.start_server(argv))

    @property
    def _url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def _settings(self) -> Settings:
        return {
            "server": {"name": self.name},
            "peer": {"advertise": f"{self.name}:8471"},
            "storage": {"root": "tank/hoody", "import_roots": [IMPORTS]},
            "database": {"url": "postgresql://hoody@/hoody?host=/run"},
            "transfer": {
                "bandwidth_limit_bytes_per_second": RATE_BYTES,
                "max_concurrent": 1,  # each process takes seconds to start
                "exporters": 1,
            },
        }
