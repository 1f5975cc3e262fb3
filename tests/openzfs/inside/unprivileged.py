"""A server of a world whose storage is root's, and whose exporter runs as a user who is not."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from daemon import keys
from daemon.model import Container, Job, now
from daemon.store import jobs, servers
from tests.engine_world import World
from transfer import command
from transfer.errors import from_code
from transfer.model import Snapshot
from transfer.peer.client import PeerSource
from transfer.peer.link import LinkSettings
from transfer.storage import zfs_text
from transfer.storage.zfs_command import ASK_SECONDS, Zfs

USER = "exporter"
_DESTROY = """
import asyncio, json, sys
from transfer.errors import TransferError
from transfer.storage import open_storage

async def main(*settings, path, guid):
    storage = await open_storage("zfs", *settings)
    await storage.destroy_snapshot(path, guid)
    await storage.destroy_bookmark(path, guid)

try:
    asyncio.run(main(*sys.argv[1:4], path=sys.argv[4], guid=sys.argv[5]))
except TransferError as error:
    print(json.dumps([error.code, error.message]))
"""
PROJECT = Path(__file__).parents[3]
START_SECONDS = 300.0
_AS_USER = ("setpriv", "--reuid", USER, "--regid", USER, "--clear-groups", "--")


def documented() -> list[str]:
    """The permissions that the README tells to allow."""
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"zfs allow -u hoody (\S+) tank/hoody", text)
    assert found is not None
    return found[1].split(",")


async def as_user(*argv: str) -> None:
    """Runs `zfs` as the user. Raises what a storage would."""
    output = await command.run([*_AS_USER, *argv], deadline_seconds=ASK_SECONDS)
    if output.status != 0:
        raise zfs_text.failure(replace(output, argv=argv))


@contextmanager
def readable_project(at: Path) -> Iterator[None]:
    """The project where the user can read it; its own place is below root's home."""
    at.mkdir()
    subprocess.run(["mount", "--bind", PROJECT, at], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", at], check=True)


@dataclass
class Unprivileged:
    """`world.here` is that server; `source` is a container on it, which `job`, a copy of
    `world.there`, reads. All that is not storage belongs to the user."""

    world: World
    directory: Path
    source: Container
    job: Job
    root: str

    @classmethod
    async def of(cls, world: World, directory: Path, root: str) -> Unprivileged:
        source = await world.create()
        _, job = await world.begin_copy(source)
        made = cls(world, directory, source, await world.claim(job), root)
        await made._hand_over()
        return made

    @property
    def path(self) -> str:
        """The source's live generation."""
        return self.world.path(self.source)

    async def allow(self, permissions: Sequence[str], verb: str = "allow") -> None:
        """Allows the user so much, or with `unallow` no longer."""
        await Zfs(self.root).do(verb, "-u", USER, ",".join(permissions), self.root)

    async def destroy(self, snapshot: Snapshot) -> None:
        """Destroys a snapshot and its bookmark as the user's collector does. Raises what the
        storage does."""
        config = self.world.here.config
        settings = (self.root, config.storage.mount_root, config.server.state_dir)
        program = (sys.executable, "-c", _DESTROY, *settings, snapshot.dataset, snapshot.guid)
        put = ("env", f"PYTHONPATH={self.directory}/project", "PYTHONDONTWRITEBYTECODE=1")
        output = await command.run([*_AS_USER, *put, *program], deadline_seconds=START_SECONDS)
        assert output.status == 0, output.stderr
        if output.stdout:
            raise from_code(*json.loads(output.stdout), {})

    async def start(self) -> asyncio.subprocess.Process:
        """A real exporter process, as `hoodyd run` starts it, but for its user."""
        return await asyncio.create_subprocess_exec(
            *(*_AS_USER, sys.executable, "-m", "daemon", "exporter"),
            *("--config", str(self.directory / "hoodyd.toml")),
            cwd=self.directory / "project",
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    @asynccontextmanager
    async def exporter(self) -> AsyncIterator[PeerSource]:
        """What the job sees of the source through a running exporter."""
        process = await self.start()
        assert process.stdout is not None
        try:
            async with asyncio.timeout(START_SECONDS):
                assert json.loads(await process.stdout.readline()) == {"listening": True}
            async with PeerSource.connect(
                self._address,
                host_key=self._host_key.public_text,
                client_key=self._client_key.private_text,
                server_id=self.world.there.id,
                job_id=self.job.id,
                settings=LinkSettings(),
            ) as peer:
                yield peer
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    async def _hand_over(self) -> None:
        config, state = self.world.here.config, self.directory / "here/state"
        self._host_key, self._client_key = keys.generate("here"), keys.generate("there")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._address = f"127.0.0.1:{free.getsockname()[1]}"
        async with self.world.db.write() as tx:
            here = replace(self.world.here.server, peer_key=self._host_key.key_id)
            there = replace(self.world.there.server, peer_key=self._client_key.key_id)
            for server in (here, there):
                await servers.put(tx, server)
            await jobs.renew(tx, there.id, [self.job.id], now() + timedelta(hours=1))
        (state / "peer_key").write_text(self._host_key.private_text)
        (state / "peer_key").chmod(0o600)
        tables = {
            "server": {"id": here.id, "state_dir": str(state)},
            "peer": {"listen": self._address},
            "storage": {
                "backend": "zfs",
                "root": self.root,
                "mount_root": config.storage.mount_root,
            },
            "database": {"url": config.database.url},
        }
        # JSON's texts are TOML's too.
        lines = [
            line
            for name, table in tables.items()
            for line in (f"[{name}]", *(f"{key} = {json.dumps(v)}" for key, v in table.items()))
        ]
        (self.directory / "hoodyd.toml").write_text("\n".join(lines))
        self.directory.chmod(0o711)
        owned = [self.directory, state, *state.iterdir(), *self.directory.glob("catalogue.db*")]
        subprocess.run(["chown", f"{USER}:", *owned], check=True)
