"""Two servers for the demo: daemons on loopback that share a SQLite catalogue."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from daemon import auth, setup
from daemon.config import Config
from daemon.model import now
from transfer import command
from transfer.storage.private_zfs import PrivateZfs

READY_SECONDS = 60.0
STOP_SECONDS = 15.0
POOL_BYTES = 8 << 30
TOKEN_SECONDS = 86_400

_TOML = """\
[server]
name = "{name}"
listen = "127.0.0.1:{api_port}"
state_dir = "{directory}/{name}"
[peer]
listen = "127.0.0.1:{peer_port}"
[storage]
backend = "{backend}"
root = "{root}"
mount_root = "{directory}/{name}-mounts"
import_roots = ["{directory}/import"]
[database]
url = "sqlite:///{directory}/catalogue.db"
[auth]
secret_file = "{directory}/jwt.secret"
sealing_key_file = "{directory}/sealing.key"
[transfer]
max_concurrent = 2
exporters = 1
[log]
level = "warning"
"""


class DemoFailed(Exception):
    """The demo cannot go on; the message says why."""


@dataclass
class DemoServer:
    """One daemon."""

    name: str
    config_path: str
    url: str
    log_path: str
    storage_root: str
    server_id: str = ""
    process: subprocess.Popen[bytes] | None = None


@dataclass
class Servers:
    """The demo's servers and their first user. `zfs` is the private zfs-fuse, where there is
    one."""

    directory: str
    backend: str
    zfs: PrivateZfs | None
    members: list[DemoServer] = field(default_factory=list)
    user_id: str = ""
    project_id: str = ""
    token: str = ""

    async def start(self) -> None:
        """Sets both up as `hoodyd init` does, starts them, and waits until they are ready."""
        os.makedirs(os.path.join(self.directory, "import"), exist_ok=True)
        for name in ("demo-a", "demo-b"):
            await self._add(name)
        for member in self.members:
            self._launch(member)
        async with aiohttp.ClientSession() as session:
            for member in self.members:
                await _ready(session, member)

    async def _add(self, name: str) -> None:
        root = await self._root(name)
        path = os.path.join(self.directory, f"{name}.toml")
        api_port, peer_port = _free_port(), _free_port()
        settings = _TOML.format(
            name=name,
            directory=self.directory,
            backend=self.backend,
            root=root,
            api_port=api_port,
            peer_port=peer_port,
        )
        Path(path).write_text(settings, encoding="utf-8")
        report = await setup.init(path, {})
        self.user_id, self.project_id = report.user.id, report.project.id
        self.token = _token(report.config, report.user.id)
        log_path = os.path.join(self.directory, f"{name}.log")
        url = f"http://{report.config.listen}"
        self.members.append(DemoServer(name, path, url, log_path, root, report.config.server.id))

    async def _root(self, name: str) -> str:
        if self.backend == "dir":
            return os.path.join(self.directory, f"{name}-storage")
        pool = f"hoody{os.getpid()}{name[-1]}"
        if self.zfs is not None:
            self.zfs.create_pool(pool, os.path.join(self.directory, f"{name}.pool"), POOL_BYTES)
        root = f"{pool}/hoody"
        done = await command.run(
            ["zfs", "create", "-o", "mountpoint=none", "-o", "atime=off", root],
            deadline_seconds=READY_SECONDS,
        )
        if done.status != 0:
            raise DemoFailed(f"cannot make {root}: {done.stderr.strip()}")
        return root

    def _launch(self, member: DemoServer) -> None:
        with open(member.log_path, "wb") as log:
            argv = [sys.executable, "-m", "daemon", "run", "--config", member.config_path]
            member.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def stop(self) -> None:
        """Ends both daemons, gently first."""
        running = [m.process for m in self.members if m.process and m.process.poll() is None]
        for process in running:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for process in running:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _token(config: Config, user_id: str) -> str:
    return auth.issue(
        auth.load_keys(config), user_id, frozenset(auth.Scope), ttl_seconds=TOKEN_SECONDS, at=now()
    )


async def _ready(session: aiohttp.ClientSession, member: DemoServer) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if member.process is None or member.process.poll() is not None:
            break
        try:
            async with session.get(f"{member.url}/readyz") as response:
                if response.status == 200:
                    return
        except aiohttp.ClientConnectionError:
            pass
        await asyncio.sleep(0.1)
    said = Path(member.log_path).read_text(encoding="utf-8", errors="replace")
    raise DemoFailed(f"{member.name} does not start:\n{said[-2000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
