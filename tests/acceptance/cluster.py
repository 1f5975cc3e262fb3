"""Real daemons on loopback: `hoodyd run`, each with its own storage, one catalogue.

    with Cluster(directory, backend="dir", servers=2) as cluster:
        async with cluster.api() as api: …

Whatever happens, `__exit__` ends every daemon and its children. What they logged is in
`Daemon.log_path`; the fixtures show it when a test fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from daemon import auth, setup
from daemon.model import now
from tests.acceptance.api import Api
from tests.kernel_zfs import KERNEL
from tests.ports import free_port
from transfer.storage.private_zfs import PrivateZfs

READY_SECONDS = 180.0
STOP_SECONDS = 60.0
TOKEN_SECONDS = 7_200
POLL_SECONDS = 0.05
POOL_BYTES = 6 << 30  # of a sparse file
CHILDREN = ("worker", "exporter", "keeper")

Settings = Mapping[str, Mapping[str, object]]

# Each heartbeat asks the storage three times, for which emulation has no time in every second.
HEARTBEAT_SECONDS = 20 if KERNEL else 1

# Faster than an operator wants it, so that tests do not wait.
QUICK: Settings = {
    "transfer": {"max_concurrent": 2, "exporters": 1, "collect_grace_seconds": 0},
    "timing": {
        "heartbeat_seconds": HEARTBEAT_SECONDS,
        "server_lost_seconds": 60 * HEARTBEAT_SECONDS,
    },
    "limits": {"requests_per_minute": 1_000_000},
    "log": {"level": "debug"},
}


def is_ready(url: str) -> bool:
    """What the readyz of a daemon's API says now; no answer is a no."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        error.close()
        return False
    except OSError:
        return False


class Daemon:
    """One server's `hoodyd run`, which can be started, stopped and killed again and again."""

    def __init__(
        self, name: str, directory: Path, settings: Settings, program: str = "daemon"
    ) -> None:
        """Writes the config and does what `hoodyd init` does; a process of its own for that
        would cost a second. `program` is the module that is started as `hoodyd`."""
        self.name = name
        self._hoodyd = [sys.executable, "-m", program]
        self.config_path = directory / f"{name}.toml"
        self.log_path = directory / f"{name}.log"
        self.url = f"http://{settings['server']['listen']}"
        self.state_dir = Path(str(settings["server"]["state_dir"]))
        self.storage_root = str(settings["storage"]["root"])
        host, _, port = str(settings["peer"]["listen"]).rpartition(":")
        self.peer_address = (host, int(port))
        self._process: subprocess.Popen[bytes] | None = None
        self.config_path.write_text(toml(settings))
        self._made = _apart(setup.init(str(self.config_path), {}))
        self.server_id = self._made.config.server.id

    def command(self, *arguments: str) -> str:
        """What `hoodyd ARGUMENTS --config …` prints; it must end well."""
        done = subprocess.run(
            [*self._hoodyd, *arguments, "--config", str(self.config_path)],
            capture_output=True,
            timeout=READY_SECONDS,
            check=False,
        )
        assert done.returncode == 0, (done.stdout + done.stderr).decode()
        return done.stdout.decode()

    def admin_token(self) -> str:
        """What `hoodyd token --admin` prints."""
        scopes = [*auth.USER_SCOPES, auth.Scope.ADMIN]
        keys = auth.load_keys(self._made.config)
        user_id = self._made.user.id
        return auth.issue(keys, user_id, scopes, ttl_seconds=TOKEN_SECONDS, at=now())

    @property
    def pid(self) -> int:
        """The daemon's process id."""
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    def launch(self) -> None:
        """Starts it and does not wait."""
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._hoodyd, "run", "--config", str(self.config_path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def start(self) -> None:
        """Starts it and waits until it is ready."""
        self.launch()
        self.wait_ready()

    def wait_ready(self) -> None:
        """Waits until readyz says so."""
        deadline = time.monotonic() + READY_SECONDS
        while not self.is_ready():
            assert self._process is not None, f"{self.name} was never started"
            assert self._process.poll() is None, f"{self.name} ended: {self.log_tail(2000)}"
            assert time.monotonic() < deadline, f"{self.name} is not ready: {self.log_tail(2000)}"
            time.sleep(POLL_SECONDS)

    def is_ready(self) -> bool:
        """What readyz says now."""
        return is_ready(self.url)

    def stop(self) -> None:
        """Ends it as systemd does; its children must be gone then."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it with -9; waits until its children have noticed."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        family: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            family = psutil.Process(self._process.pid).children(recursive=True)
        self._process.send_signal(number)
        try:
            self._process.wait(STOP_SECONDS)
        finally:
            self._process.kill()
            self._process.wait()
            self._process = None
            _, alive = psutil.wait_procs(family, STOP_SECONDS)
            for process in alive:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        assert not alive, f"{self.name} left {alive} behind"

    def children(self, verb: str) -> list[psutil.Process]:
        """Its living processes of one kind, of CHILDREN."""
        found = []
        for process in psutil.Process(self.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                if verb == process.name() or verb in process.cmdline():
                    found.append(process)
        return found

    def log_tail(self, characters: int = 20_000) -> str:
        """The end of what it logged."""
        if not self.log_path.exists():
            return ""
        return self.log_path.read_text(errors="replace")[-characters:]


class Cluster:
    """Servers a, b, c … that share a catalogue, and a directory to take trees in from. Their
    daemons' children start quickly (nursery.py)."""

    program = "tests.acceptance.nursery"

    def __init__(
        self,
        directory: Path,
        backend: str,
        servers: int = 2,
        *,
        zfs: PrivateZfs | None = None,
        settings: Settings | None = None,
        database_url: str | None = None,
    ) -> None:
        """`zfs` is needed for the backend `zfs`; `settings` come on top of QUICK; `{server}` in
        the database's url becomes the server's name."""
        self.directory = directory
        self.backend = backend
        self.imports = directory / "imports"
        self.daemons: list[Daemon] = []
        self._names = [chr(ord("a") + number) for number in range(servers)]
        self._zfs = zfs
        self._pools: list[str] = []
        self._settings = settings or {}
        self._database_url = database_url or f"sqlite:///{directory}/catalogue.db"
        self._token = ""

    def __enter__(self) -> Self:
        self.imports.mkdir(parents=True)
        try:
            for name in self._names:
                settings = self._settings_of(name)
                self.daemons.append(Daemon(name, self.directory, settings, self.program))
            self._token = self.daemons[0].admin_token()
            for daemon in self.daemons:
                daemon.launch()
            for daemon in self.daemons:
                daemon.wait_ready()
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
    def zfs(self) -> bool:
        """Whether the backend is zfs."""
        return self.backend == "zfs"

    def api(self, number: int = 0) -> Api:
        """A client, as admin, of the server with this number."""
        return Api(self.daemons[number].url, self._token)

    def tree(self, name: str) -> str:
        """The path of a directory that may be taken in; it is not made."""
        return str(self.imports / name)

    def logs(self) -> list[tuple[str, str]]:
        """The ends of all logs, by server."""
        return [(f"hoodyd {daemon.name}", daemon.log_tail()) for daemon in self.daemons]

    def _settings_of(self, name: str) -> Settings:
        own: dict[str, dict[str, object]] = {
            "server": {
                "name": name,
                "listen": f"127.0.0.1:{free_port()}",
                "state_dir": str(self.directory / f"state-{name}"),
            },
            "peer": {"listen": f"127.0.0.1:{free_port()}"},
            "storage": {
                "backend": self.backend,
                "root": self._storage_root(name),
                "mount_root": str(self.directory / f"mounts-{name}"),
                "import_roots": [str(self.imports)],
            },
            "runtime": {"network": f"10.{ord(name)}.0.0/16"},
            "database": {"url": self._database_url.replace("{server}", name)},
            "auth": {
                "secret_file": str(self.directory / "jwt.secret"),
                "sealing_key_file": str(self.directory / "sealing.key"),
            },
        }
        for layer in (QUICK, self._settings):
            for section, keys in layer.items():
                own[section] = {**own.get(section, {}), **keys}
        return own

    def _storage_root(self, name: str) -> str:
        if not self.zfs:
            return str(self.directory / f"storage-{name}")
        assert self._zfs is not None, "the backend zfs needs a private zfs-fuse"
        pool = f"hoody-{self.directory.name}-{name}"
        self._zfs.create_pool(pool, str(self.directory / f"{name}.pool"), POOL_BYTES)
        self._pools.append(pool)
        subprocess.run(
            ["zfs", "create", "-o", "mountpoint=none", "-o", "atime=off", f"{pool}/hoody"],
            check=True,
            timeout=READY_SECONDS,
        )
        return f"{pool}/hoody"

    def _tear_down(self) -> None:
        with contextlib.ExitStack() as stack:
            for pool in self._pools:
                assert self._zfs is not None
                stack.callback(self._zfs.destroy_pool, pool)
            for daemon in self.daemons:
                stack.callback(daemon.stop)


class PlainCluster(Cluster):
    """One whose daemons are as users have them: `python -m daemon run`."""

    program = "daemon"


MakeCluster = Callable[..., Cluster]


def _apart(work: Coroutine[object, object, setup.Report]) -> setup.Report:
    """The work's result, from an event loop of its own: a test's may be running."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def toml(settings: Settings) -> str:
    """Tables of plain values; JSON writes those as TOML does."""
    lines = []
    for section, keys in settings.items():
        lines += [f"[{section}]", *(f"{key} = {json.dumps(keys[key])}" for key in keys)]
    return "\n".join(lines) + "\n"
