"""The tools that are compared: each brings a tree to the other side, and then what has changed.

All work on the same data, changed in the same way. A tool's next full copy goes to a new place, so
that none writes into room that it has just been given back, which is in the memory still. What
is to be undone before is undone where nobody measures.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks import data
from benchmarks.metered import Metered
from benchmarks.sshd import Sshd
from benchmarks.world import World, run, said
from daemon.demo.servers import DemoFailed

HOST = "root@127.0.0.1"
PIPE_CIPHER = "aes128-gcm@openssh.com"

# zfs-fuse's `zfs get` knows no types, which syncoid asks for; without `-t` it shows all of them.
_WRAPPER = """\
#!/bin/sh
if [ "$1 $2 $4" = "get -Hpd -t" ]; then
    case "$5" in
        snapshot) {zfs} get -Hpd "$3" "$6" "$7" | grep @ ;;
    esac
    exit 0
fi
exec {zfs} "$@"
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a kind's tree is, and its files with their sizes."""

    kind: str
    tree: str
    size_bytes: int
    files: Sequence[tuple[str, int]]


class Tool(Protocol):
    """One of those that are compared."""

    name: str

    @property
    def roots(self) -> list[int]:
        """The processes of both sides that live on, and the program that runs now, if any."""
        ...

    async def prepare(self, place: Place) -> None:
        """Once for a kind of data: makes the source of it."""
        ...

    async def begin(self) -> str:
        """Makes ready for a full copy to a new place; the directory to change."""
        ...

    async def full(self) -> Metered:
        """Brings all of it over; the CPU seconds are of what does not live on."""
        ...

    async def more(self) -> Metered:
        """Brings over what has changed."""
        ...


class Hoody:
    """The product, on either backend; `stages` by kind of data is what the newest full copy says
    of its seconds."""

    name = "hoody"

    def __init__(self, world: World) -> None:
        self.stages: dict[str, str] = {}
        self._world = world
        self._kind = self._source = self._copy = ""

    @property
    def roots(self) -> list[int]:
        return self._world.roots

    async def prepare(self, place: Place) -> None:
        self._kind = place.kind
        self._source = await self._world.create(place.tree)

    async def begin(self) -> str:
        return await self._world.rootfs(self._source)

    async def full(self) -> Metered:
        done = await self._world.copy(self._source, 1, strategy="full")
        if done.result["strategy"] != "full":
            raise DemoFailed(f"a full copy was {done.result['strategy']}")
        self._copy = done.container
        self.stages[self._kind] = said(done.stages)
        return Metered(0, done.seconds, 0.0)

    async def more(self) -> Metered:
        return Metered(0, (await self._world.sync(self._copy)).seconds, 0.0)


class Program:
    """Runs programs by `benchmarks.metered`; `pids` is the one that runs, if any."""

    def __init__(self) -> None:
        self.pids: list[int] = []

    async def run(self, *argv: str) -> Metered:
        """To its end. Raises DemoFailed where it fails."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.metered", *argv),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        self.pids = [process.pid]
        answer, output = await process.communicate()
        self.pids = []
        found = Metered(**json.loads(answer))
        if found.status != 0:
            raise DemoFailed(f"{shlex.join(argv)}: {output.decode(errors='replace')[-1000:]}")
        return found


class ZfsPeer:
    """What the peers on ZFS have in common: their own dataset, at one end and the other. Its data
    comes from the dataset of the one that it is `like`: files by thousands take long to write."""

    name = ""

    def __init__(self, world: World, sshd: Sshd, like: ZfsPeer | None = None) -> None:
        self.sshd = sshd
        self.world = world
        self._like = like
        self.program = Program()
        self.source = self.target = self._mounted = ""
        self._begun = 0

    @property
    def roots(self) -> list[int]:
        zfs = self.world.servers.zfs
        return [self.sshd.pid, *self.program.pids, *([zfs.pid] if zfs and zfs.pid else [])]

    async def prepare(self, place: Place) -> None:
        here, there = (member.storage_root for member in self.world.servers.members)
        name = f"peer-{self.name}-{place.kind}"
        self.source, self.target = f"{_pool(here)}/{name}", f"{_pool(there)}/{name}"
        self._mounted = os.path.join(self.world.servers.directory, name)
        if self._like is None:
            await run("zfs", "create", "-o", f"mountpoint={self._mounted}", self.source)
            await asyncio.to_thread(data.copy_tree, place.tree, self._mounted)
            return
        seed = f"{self._like.source}@seed"
        await run("zfs", "snapshot", seed)
        await run("/bin/sh", "-c", f"zfs send {seed} | zfs receive -u {self.source}")
        await run("zfs", "set", f"mountpoint={self._mounted}", self.source)  # and mounts it

    async def begin(self) -> str:
        self._begun += 1
        self.target = f"{_pool(self.target)}/peer-{self.name}-{self._begun}"
        for name in (await run("zfs", "list", "-H", "-t", "snapshot", "-o", "name")).splitlines():
            if name.startswith(f"{self.source}@"):
                await run("zfs", "destroy", name)
        return self._mounted


class Syncoid(ZfsPeer):
    """Debian's syncoid at its defaults."""

    name = "syncoid"

    async def prepare(self, place: Place) -> None:
        await super().prepare(place)
        wrapper = Path(self.sshd.programs) / "zfs"
        wrapper.write_text(_WRAPPER.format(zfs=shutil.which("zfs")), encoding="ascii")
        wrapper.chmod(0o755)

    async def full(self) -> Metered:
        return await self.more()

    async def more(self) -> Metered:
        quiet = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null")
        options = [f"--sshoption={option}" for option in quiet]
        port, key = f"--sshport={self.sshd.port}", f"--sshkey={self.sshd.key}"
        argv = ["syncoid", "--quiet", port, key, *options]
        path = f"PATH={self.sshd.programs}:{os.environ['PATH']}"
        return await self.program.run("env", path, *argv, self.source, f"{HOST}:{self.target}")


class Pipe(ZfsPeer):
    """The best pipe that one can write by hand."""

    name = "pipe"

    def __init__(self, world: World, sshd: Sshd, like: ZfsPeer) -> None:
        super().__init__(world, sshd, like)
        self._taken = 0

    async def full(self) -> Metered:
        return await self._send("")

    async def more(self) -> Metered:
        return await self._send(f"-i @{self._taken} ")

    async def _send(self, base: str) -> Metered:
        self._taken += 1
        snapshot = f"{self.source}@{self._taken}"
        options = shlex.join([*self.sshd.options(), "-c", PIPE_CIPHER, HOST])
        receive = shlex.quote(f"zstd -qd | zfs receive {self.target}")
        send = f"zfs send {base}{snapshot} | zstd -q -1 -T0"
        # Without `pipefail` the status is that of the receiving end, which fails with the others.
        line = f"zfs snapshot {snapshot} && {send} | ssh {options} {receive}"
        return await self.program.run("/bin/sh", "-c", line)


class Rsync:
    """rsync over ssh, of plain directories."""

    name = "rsync"

    def __init__(self, directory: str, sshd: Sshd) -> None:
        self._sshd = sshd
        self._program = Program()
        self._source = os.path.join(directory, "rsync-source")
        self._target = os.path.join(directory, "rsync-target")

    @property
    def roots(self) -> list[int]:
        return [self._sshd.pid, *self._program.pids]

    async def prepare(self, place: Place) -> None:
        shutil.rmtree(self._source, ignore_errors=True)
        await asyncio.to_thread(shutil.copytree, place.tree, self._source, symlinks=True)

    async def begin(self) -> str:
        await asyncio.to_thread(shutil.rmtree, self._target, ignore_errors=True)
        return self._source

    async def full(self) -> Metered:
        return await self.more()

    async def more(self) -> Metered:
        shell = shlex.join(["ssh", *self._sshd.options()])
        keep = ["-aHAX", "--numeric-ids", "--delete"]
        return await self._program.run(
            "rsync", *keep, "-e", shell, f"{self._source}/", f"{HOST}:{self._target}/"
        )


async def bzfs(world: World, directory: str) -> str:
    """Tries bzfs between the two pools; what it says, the last thing last, or nothing where it
    runs."""
    here, there = (_pool(member.storage_root) for member in world.servers.members)
    await run("zfs", "create", "-o", "mountpoint=none", f"{here}/peer-bzfs")
    await run("zfs", "snapshot", f"{here}/peer-bzfs@one")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bzfs_main.bzfs", f"--log-dir={directory}/bzfs-logs"),
        *(f"{here}/peer-bzfs", f"{there}/peer-bzfs"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    if process.returncode == 0:
        return ""
    errors = [line for line in output.decode(errors="replace").splitlines() if " [E] " in line]
    return " ".join(line.partition(" [E] ")[2].strip() for line in errors)


def _pool(dataset: str) -> str:
    return dataset.partition("/")[0]
